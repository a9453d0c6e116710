"""Where the kubelet's configuration lies on other people's nodes, and what its drop-ins change."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tree, write_tree
from tuneagent.checks.containers import ROWS
from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.facts.kubelet import has_kubelet, kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

STATIC, NONE = "cpuManagerPolicy: static\n", "cpuManagerPolicy: none\ncgroupDriver: cgroupfs\n"
UNIT = "etc/systemd/system/kubelet.service.d"


def facts_of(root: Path, files: dict[str, str]) -> Facts:
    write_tree(root, files, ["var/lib/kubelet", "etc/systemd/system"])
    return Facts(tree(Files(str(root))))


@pytest.mark.parametrize(
    ("files", "policy"),
    [
        ({"var/lib/kubelet/config.yaml": STATIC}, "static"),
        ({"etc/kubernetes/kubelet/config.json": '{"cpuManagerPolicy": "static"}'}, "static"),
        ({"etc/kubernetes/kubelet/kubelet-config.json": '{"cpuManagerPolicy": "static"}'}, "static"),
        ({"etc/kubernetes/kubelet.conf": STATIC}, "static"),
        ({"etc/default/kubeletconfig.json": '{"cpuManagerPolicy": "static"}'}, "static"),
        ({"home/kubernetes/kubelet-config.yaml": STATIC}, "static"),
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-defaults.conf": NONE,
          "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/10-site.conf": STATIC}, "static"),
        ({"var/lib/rancher/rke2/agent/etc/kubelet.conf.d/00-defaults.conf": STATIC}, "static"),
        # nodeadm starts the kubelet with this folder.
        ({"etc/kubernetes/kubelet/config.json": '{"cpuManagerPolicy": "none"}',
          "etc/kubernetes/kubelet/config.json.d/40-nodeadm.conf": '{"cpuManagerPolicy": "static"}'}, "static"),
        # Only .conf is read, in the order of names.
        ({"etc/kubernetes/kubelet/config.json": "{}", "etc/kubernetes/kubelet/config.json.d/20.conf": STATIC,
          "etc/kubernetes/kubelet/config.json.d/10.conf": NONE, "etc/kubernetes/kubelet/config.json.d/30.yaml": NONE}, "static"),
        # What the unit says counts more than where files usually are; of several the last.
        ({"var/lib/kubelet/config.yaml": NONE, "opt/k.yaml": STATIC,
          f"{UNIT}/10.conf": '[Service]\nExecStart=/usr/bin/kubelet --config=/opt/k.yaml --v=2\n'}, "static"),
        ({"var/lib/kubelet/config.yaml": NONE, "etc/k.d/90.conf": STATIC,
          f"{UNIT}/20.conf": '[Service]\nEnvironment="KUBELET_EXTRA_ARGS=--config-dir=/etc/k.d"\n'}, "static"),
        ({"var/lib/kubelet/config.yaml": NONE, "etc/k.d/90.conf": STATIC,
          "etc/default/kubelet": 'KUBELET_EXTRA_ARGS="--config-dir /etc/k.d"\n'}, "static"),
        # Of two units of one name the stronger folder's counts, and its drop-ins go by their names whatever the folder.
        ({"etc/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet\n", "opt/k.yaml": NONE,
          "usr/lib/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet --config=/opt/k.yaml\n"}, "none"),
        ({"usr/local/lib/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet --config=/opt/k.yaml\n", "opt/k.yaml": STATIC,
          "var/lib/kubelet/config.yaml": NONE}, "static"),
        ({"usr/lib/systemd/system/kubelet.service.d/20.conf": "[Service]\nEnvironment=A=--config=/opt/k.yaml\n", "opt/k.yaml": STATIC,
          f"{UNIT}/10.conf": "[Service]\nEnvironment=A=--config=/opt/other.yaml\n", "opt/other.yaml": NONE}, "static"),
        # An empty command takes back the one before it, and what it says goes on over lines.
        ({"usr/lib/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet --config=/opt/k.yaml\n", "opt/k.yaml": NONE,
          f"{UNIT}/10.conf": "[Service]\nExecStart=\nExecStart=kubelet --config=/var/lib/kubelet/config.yaml\n",
          "var/lib/kubelet/config.yaml": STATIC}, "static"),
        ({f"{UNIT}/10.conf": "[Service]\nExecStart=kubelet \\\n  --config \\\n  /opt/k.yaml\n", "opt/k.yaml": STATIC,
          "var/lib/kubelet/config.yaml": NONE}, "static"),
        ({f"{UNIT}/10.conf": "[Service]\n#ExecStart=kubelet --config=/opt/k.yaml\n", "opt/k.yaml": NONE,
          "var/lib/kubelet/config.yaml": STATIC}, "static"),
        # Folders within the folder of drop-ins are read too, each where its name stands.
        ({"etc/kubernetes/kubelet/config.json": "{}", "etc/kubernetes/kubelet/config.json.d/b/10.conf": STATIC,
          "etc/kubernetes/kubelet/config.json.d/a.conf": NONE, "etc/kubernetes/kubelet/config.json.d/c.conf/x": NONE}, "static"),
        # Without `--config` no file is read, whatever lies where others have theirs.
        ({"usr/lib/systemd/system/kubelet.service": "[Service]\nExecStart=/usr/bin/kubelet --v=2\n",
          "var/lib/kubelet/config.yaml": STATIC}, "none"),
        # What runs before and after it is not the kubelet.
        ({f"{UNIT}/1.conf": "[Service]\nExecStartPre=/usr/bin/check --config=/etc/other.yaml\nExecStart=kubelet --config=/etc/k.yaml\n"
          "ExecStartPost=/usr/bin/tell --config /etc/other.yaml --cpu-manager-policy=none\n", "etc/k.yaml": STATIC, "etc/other.yaml": NONE},
         "static"),
    ],
)  # fmt: skip
def test_the_policy_that_the_kubelet_would_take(tmp_path: Path, files: dict[str, str], policy: str) -> None:
    facts = facts_of(tmp_path, files)
    assert has_kubelet(facts) is None
    assert kubelet_field("cpuManagerPolicy", "none")(facts) == Value(policy)


@pytest.mark.parametrize(
    ("files", "policy"),
    [
        ({"var/lib/kubelet/config.yaml": STATIC, "etc/default/kubelet": "KUBELET_EXTRA_ARGS=--cpu-manager-policy=none\n"}, "none"),
        ({"var/lib/kubelet/config.yaml": NONE, "var/lib/kubelet/kubeadm-flags.env": 'X="--cpu-manager-policy static --v=2"\n'}, "static"),
        ({"var/lib/kubelet/config.yaml": NONE, "etc/default/kubelet": "# --cpu-manager-policy=static\n"}, "none"),
        # A variable counts where the command has it, and with the value that it has last; an empty one too.
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static B=x\nExecStart=kubelet $A --v=${B}\n"}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nExecStart=kubelet $A\n",
          f"{UNIT}/2.conf": "[Service]\nEnvironment=A=--v=2\n"}, "none"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nEnvironmentFile=-/etc/default/kubelet\nExecStart=kubelet $A\n",
          "etc/default/kubelet": "A=\n"}, "none"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=B=--cpu-manager-policy=static\nExecStart=kubelet $A\n"}, "none"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nExecStart=kubelet $A --cpu-manager-policy=none\n"}, "none"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nExecStart=kubelet --cpu-manager-policy=none $A\n"}, "static"),
        # In quotes it is still a word of its own; a comment never goes on; files by a pattern and by the unit's name.
        ({f"{UNIT}/1.conf": '[Service]\nEnvironment=A=--cpu-manager-policy=static\nExecStart="/usr/bin/kubelet" "$A"\n'}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\n# ExecStart=/usr/bin/kubelet \\\n#   --v=2\nExecStart=/usr/bin/kubelet --cpu-manager-policy=static\n"},
         "static"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironmentFile=/etc/k.d/*.env\nExecStart=kubelet $A\n",
          "etc/k.d/1.env": "A=--cpu-manager-policy=static\n", "etc/k.d/1.txt": "A=\n"}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironmentFile=-/etc/default/%N-args\nExecStart=kubelet $A\n",
          "etc/default/kubelet-args": "A=--cpu-manager-policy=static\n"}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nUnsetEnvironment=A\nExecStart=kubelet $A\n"}, "none"),
        ({"etc/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet $A\n",
          "etc/systemd/system/service.d/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=none\n",
          "etc/systemd/system/service.d/2.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\n"}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\nEnvironment=A=--cpu-manager-policy=static\nExecStart=/usr/bin/kubelet\t$A --cpu-manager-policy=none\n"},
         "none"),
        ({f"{UNIT}/1.conf": "[Service]\nExecStart=kubelet --eviction-hard=nodefs.available<5%,x<3% --cpu-manager-policy=static\n"}, "static"),
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE,
          "etc/rancher/k3s/config.yaml": "kubelet-arg:\n- cpu-manager-policy=static\n"}, "static"),
        ({"var/lib/rancher/rke2/agent/etc/kubelet.conf.d/00.conf": NONE,
          "etc/rancher/rke2/config.yaml.d/9.yaml": "kubelet-arg: --cpu-manager-policy=static\n"}, "static"),
        # Arguments in another file that the unit names; names with underscores.
        ({"etc/systemd/system/kubelet.service": "[Service]\nEnvironmentFile=-/etc/site/kubelet.args\nExecStart=kubelet $A\n",
          "etc/site/kubelet.args": 'A="--config=/etc/k.yaml"\n', "etc/k.yaml": STATIC}, "static"),
        ({"etc/kubernetes/kubelet.env": 'KUBELET_ARGS="--config=/etc/kubernetes/kubelet-config.yaml"\n',
          "etc/kubernetes/kubelet-config.yaml": STATIC, "etc/systemd/system/kubelet.service":
          "[Service]\nEnvironmentFile=-/etc/kubernetes/kubelet.env\nExecStart=kubelet $KUBELET_ARGS\n"}, "static"),
        ({"var/lib/kubelet/config.yaml": NONE, "etc/default/kubelet": "A=--cpu_manager_policy=static\n"}, "static"),
        # Of k3s' files a later one replaces the list; what is no YAML by its name is not read.
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, "etc/rancher/k3s/config.yaml": "kubelet-arg: [cpu-manager-policy=static]\n",
          "etc/rancher/k3s/config.yaml.d/10.yaml": "kubelet-arg: [max-pods=200]\n"}, "none"),
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE,
          "etc/rancher/k3s/config.yaml.d/10.yaml.bak": "kubelet-arg: [cpu-manager-policy=static]\n"}, "none"),
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, "etc/rancher/k3s/config.yaml": "kubelet-arg: [cpu-manager-policy=static]\n",
          "etc/rancher/k3s/config.yaml.d/10.yaml": "kubelet-arg+: [max-pods=200]\n"}, "static"),
        # On k3s' own command line, as its installer writes it, and in a file that this names.
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, "etc/systemd/system/k3s.service":
          "[Service]\nExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--kubelet-arg=cpu-manager-policy=static' \\\n\t'--disable=traefik' \\\n\n"},
         "static"),
        ({"var/lib/rancher/rke2/agent/etc/kubelet.conf.d/00.conf": NONE, "usr/local/lib/systemd/system/rke2-agent.service":
          "[Service]\nExecStart=/usr/local/bin/rke2 agent --kubelet-arg cpu-manager-policy=static\n"}, "static"),
        ({"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, "opt/k3s.yaml": "kubelet-arg: [cpu-manager-policy=static]\n",
          "etc/systemd/system/k3s-agent.service": "[Service]\nExecStart=k3s agent --config /opt/k3s.yaml\n",
          "etc/rancher/k3s/config.yaml": "kubelet-arg: [cpu-manager-policy=none]\n"}, "static"),
        ({"etc/rancher/k3s/config.yaml": "kubelet-arg: [config=/etc/k.yaml]\n", "etc/k.yaml": STATIC}, "static"),
        # Without a configuration at all.
        ({f"{UNIT}/1.conf": "[Service]\nExecStart=kubelet --cpu-manager-policy=static\n"}, "static"),
        ({f"{UNIT}/1.conf": "[Service]\nExecStart=kubelet --v=2\n"}, "none"),
        ({"var/snap/microk8s/current/args/kubelet": "--root-dir=${SNAP_COMMON}/var/lib/kubelet\n--cpu-manager-policy=static\n"}, "static"),
        ({"etc/kubernetes/kubelet.yaml": STATIC}, "static"),
        ({"etc/kubernetes/kubelet/config": STATIC}, "static"),
        ({"var/lib/k0s/kubelet-config.yaml": STATIC}, "static"),
    ],
)  # fmt: skip
def test_switches_override_files(tmp_path: Path, files: dict[str, str], policy: str) -> None:
    assert kubelet_field("cpuManagerPolicy", "none")(facts_of(tmp_path, files)) == Value(policy)


NOT_KNOWN = (
    "Environment=A=x B=it's\nExecStart=kubelet $A\n", "PassEnvironment=A\nExecStart=kubelet $A\n",
    "EnvironmentFile=/etc/*/k.env\nExecStart=kubelet $A\n", "EnvironmentFile=-/etc/%H.env\nExecStart=kubelet $A\n",
    "EnvironmentFile=-/data/elsewhere/k.env\nExecStart=kubelet $A\n", "EnvironmentFile=/etc/lines.env\nExecStart=kubelet $A\n",
    "Environment=A=\\x2d\nExecStart=kubelet $A\n", "ExecStart=kubelet \\x2d-v=2\n", "ExecStart=:kubelet $A\n",
    "ExecStart=/usr/local/bin/start-kubelet\n", "ExecStart=/bin/sh -c 'exec kubelet --v=2'\n", "ExecStart=/usr/local/bin/kubelet\n",
    "ExecStart=kubelet --config=$FILE\n", "ExecStart=kubelet --config=k.yaml\n", "ExecStart=kubelet --config-dir=k.d\n",
)  # fmt: skip


@pytest.mark.parametrize("unit", NOT_KNOWN)
def test_a_command_that_is_not_followed_is_unknown(tmp_path: Path, unit: str) -> None:
    files = {f"{UNIT}/1.conf": f"[Service]\n{unit}", "var/lib/kubelet/config.yaml": STATIC, "etc/x": ""}
    files |= {
        "etc/lines.env": 'A="--v=2\n --cpu-manager-policy=none"\n',
        "usr/local/bin/kubelet": "#!/bin/sh\nexec x\n",
    }
    facts = facts_of(tmp_path, files)
    assert has_kubelet(facts) is None
    assert isinstance(kubelet_field("cpuManagerPolicy", "none")(facts), Unreadable)


@pytest.mark.parametrize(
    "files",
    [
        {"etc/systemd/system/k3s.service": "[Service]\nExecStart=k3s server --config /opt/gone.yaml\n"},
        {"etc/systemd/system/k3s.service": "[Service]\nExecStart=k3s server --config $X\n"},
        {
            "etc/systemd/system/k3s.service": "[Service]\nEnvironmentFile=-/data/elsewhere/k.env\nExecStart=k3s server $X\n"
        },
    ],
)
def test_what_k3s_hands_on_may_not_be_known(tmp_path: Path, files: dict[str, str]) -> None:
    facts = facts_of(tmp_path, {"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": STATIC, "opt/x": "", **files})
    assert isinstance(kubelet_field("cpuManagerPolicy", "none")(facts), Unreadable)


@pytest.mark.parametrize(
    "files",
    [
        {"etc/systemd/system/k3s.service": "[Service]\nEnvironmentFile=-/etc/systemd/system/%N.service.env\nExecStart=k3s server $X\n",
         "etc/systemd/system/k3s.service.env": "X=--kubelet-arg=cpu_manager_policy=static\n"},
        {"etc/systemd/system/k3s.service": "[Service]\nEnvironmentFile=-/etc/systemd/system/k3s.service.env\nExecStart=k3s server\n",
         "etc/systemd/system/k3s.service.env": "K3S_CONFIG_FILE=/opt/k3s.yaml\n", "opt/k3s.yaml": "kubelet-arg: [cpu_manager_policy=static]\n",
         "etc/rancher/k3s/config.yaml": "kubelet-arg: [cpu-manager-policy=none]\n"},
    ],
)  # fmt: skip
def test_what_k3s_is_told_by_variables(tmp_path: Path, files: dict[str, str]) -> None:
    facts = facts_of(tmp_path, {"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, **files})
    assert kubelet_field("cpuManagerPolicy", "none")(facts) == Value("static")


def test_a_list_beside_one_on_the_command_line_is_not_known(tmp_path: Path) -> None:
    """Whether it is replaced or added to, k3s' documentation and its releases do not say alike."""
    unit = "[Service]\nExecStart=k3s server --kubelet-arg=max-pods=200\n"
    files = {"var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": NONE, "etc/systemd/system/k3s.service": unit}
    files["etc/rancher/k3s/config.yaml"] = "kubelet-arg: [cpu-manager-policy=static]\n"
    assert isinstance(kubelet_field("cpuManagerPolicy", "none")(facts_of(tmp_path, files)), Unreadable)


def test_switches_with_pairs(tmp_path: Path) -> None:
    words = "--eviction-hard=memory.available<2Gi,nodefs.available<5% --cpu-manager-policy-options=full-pcpus-only=true"
    files = {
        # A switch replaces the whole of it.
        "var/lib/kubelet/config.yaml": "evictionHard: {memory.available: 1Gi, imagefs.available: 3%}\n",
        "etc/default/kubelet": f'A="{words}"\n',
    }
    facts = facts_of(tmp_path, files)
    assert kubelet_field("evictionHard", {})(facts) == Value({"memory.available": "2Gi", "nodefs.available": "5%"})
    assert kubelet_field("cpuManagerPolicyOptions.full-pcpus-only", "false")(facts) == Value("true")


def test_a_switch_that_is_a_variable_is_unknown_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    words = "--cpu-manager-policy=${P} --reserved-cpus= --eviction-hard= --v=2"
    facts = facts_of(tmp_path, {
        "var/lib/kubelet/config.yaml": "cpuManagerPolicy: none\nreservedSystemCPUs: 0-1\nevictionHard: {memory.available: 2Gi}\n",
        "etc/default/kubelet": f"A={words}\n",
    })  # fmt: skip
    variable = Unreadable("the kubelet's cpuManagerPolicy is a variable on its command line")
    assert kubelet_field("cpuManagerPolicy", "none")(facts) == variable
    assert kubelet_field("reservedSystemCPUs", "none")(facts) == Value("")
    assert kubelet_field("evictionHard", None)(facts) == Value({})


def test_a_threshold_is_not_known_beside_a_configuration_that_cannot_be_read(tmp_path: Path) -> None:
    files = {
        "var/lib/kubelet/config.yaml": "- a list\n",
        "etc/default/kubelet": "A=--eviction-hard=nodefs.available<5%\n",
    }
    assert isinstance(ROWS["kubeletEvictionMinMib"].read(facts_of(tmp_path, files)), Unreadable)


def test_a_link_to_a_folder_among_the_drop_ins_is_not_followed(tmp_path: Path) -> None:
    files = {
        "etc/kubernetes/kubelet/config.json": "{}",
        "etc/kubernetes/kubelet/config.json.d/00.conf": NONE,
        "opt/bak/10.conf": STATIC,
    }
    facts = facts_of(tmp_path, files)
    (tmp_path / "etc/kubernetes/kubelet/config.json.d/old").symlink_to("/opt/bak")
    assert kubelet_field("cpuManagerPolicy", "x")(facts) == Value("none")


@pytest.mark.parametrize(
    ("config", "drop_in", "mib"),
    [
        ("{}", "{}", 100),
        ('{"evictionHard": {"nodefs.available": "5%"}}', "{}", 0),
        ('{"evictionHard": {"nodefs.available": "5%"}, "mergeDefaultEvictionSettings": true}', "{}", 100),
        # A drop-in adds to what is there, the defaults among it; a null takes away.
        ("{}", '{"evictionHard": {"nodefs.available": "5%"}}', 100),
        ("{}", '{"evictionHard": null}', 0),
        ('{"evictionHard": null}', "{}", 100),
        ('{"evictionHard": {"memory.available": "2Gi"}}', '{"evictionHard": {"memory.available": null}}', 0),
        ('{"evictionHard": {"memory.available": null}}', "{}", None),
    ],
)
def test_free_memory_below_which_pods_are_ended(tmp_path: Path, config: str, drop_in: str, mib: int | None) -> None:
    files = {"etc/kubernetes/kubelet/config.json": config, "etc/kubernetes/kubelet/config.json.d/1.conf": drop_in}
    found = ROWS["kubeletEvictionMinMib"].read(facts_of(tmp_path, files))
    assert found == Value(mib) if mib is not None else isinstance(found, Unreadable)


def test_a_drop_in_is_merged_into_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    files = {
        "etc/kubernetes/kubelet/config.json": '{"evictionHard": {"a": "1", "b": "2"}, "list": [1, 2], "cgroupDriver": "x"}',
        "etc/kubernetes/kubelet/config.json.d/1.conf": '{"evictionHard": {"b": "3"}, "list": [9]}',
    }
    facts = facts_of(tmp_path, files)
    fields = {name: kubelet_field(name, None)(facts) for name in ("evictionHard", "list", "cgroupDriver", "none.below")}
    assert fields == {
        "evictionHard": Value({"a": "1", "b": "3"}), "list": Value([9]), "cgroupDriver": Value("x"), "none.below": Value(None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        ({}, Absent("/var/lib/kubelet/config.yaml: no such file")),
        ({"var/lib/kubelet/config.yaml": "- a list\n"}, Unreadable("/var/lib/kubelet/config.yaml: not a mapping")),
        (
            {"etc/kubernetes/kubelet/config.json": "{}", "etc/kubernetes/kubelet/config.json.d/1.conf": "7"},
            Unreadable("/etc/kubernetes/kubelet/config.json.d/1.conf: not a mapping"),
        ),
        (
            {f"{UNIT}/1.conf": "ExecStart=kubelet --config=/opt/gone.yaml\n", "opt/other": ""},
            Absent("/opt/gone.yaml: no such file"),
        ),
    ],
)
def test_what_cannot_be_known(tmp_path: Path, files: dict[str, str], seen: Observation) -> None:
    assert kubelet_field("cpuManagerPolicy", "none")(facts_of(tmp_path, files)) == seen
