"""What a capture keeps of units, scripts and a kubelet's words: as much as its host's audit looks at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tuneagent
from support import session_of, tree, write_tree
from tuneagent.contracts.values import Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.kubelet import ARGUMENTS, KNOWN, SWITCHES, has_kubelet, kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.persist.boot_arguments import BootArguments
from tuneagent.persist.other_writers import OPTIONS, PROGRAMS, doubt
from tuneagent.share.capture import take, unpack
from tuneagent.share.redaction.places import CONFIGURED
from tuneagent.share.redaction.vocabulary import is_file_name
from tuneagent.tunables.registry import registry

FOLDERS = {
    "scaling_governor": "devices/system/cpu/cpufreq/policy0", "read_ahead_kb": "block/nvme0n1/queue", "scheduler": "block/nvme0n1/queue",
    "nr_hugepages": "devices/system/node/node0/hugepages/hugepages-2048kB", "enabled": "kernel/mm/transparent_hugepage",
    "energy_performance_preference": "devices/system/cpu/cpufreq/policy0", "energy_perf_bias": "devices/system/cpu/cpu0/power",
    "no_turbo": "devices/system/cpu/intel_pstate", "boost": "devices/system/cpu/cpufreq", "platform_profile": "firmware/acpi",
}  # fmt: skip


def host_and_capture(folder: Path, files: dict[str, str], live: int = 10) -> tuple[Facts, Facts]:
    files |= {"proc/sys/vm/swappiness": f"{live}\n", "etc/sysctl.d/1.conf": "vm.swappiness=10\n"}
    write_tree(folder / "host", files, ["etc/systemd/system", "var/lib/kubelet"])
    if (script := folder / "host/etc/rc.local").exists():
        script.chmod(0o755)
    tune = {
        "checks": {"cpuManagerPolicy": "static"},
        "sysctl": {"vm.swappiness": 10},
        "transparentHugepages": {"enabled": "madvise"},
    }
    session = session_of(tree(Files(str(folder / "host"))), tune)
    (folder / "capture.tar.gz").write_bytes(take(session.host, [session.profile], registry(), identifiers=False))
    return Facts(session.host), Facts(unpack(str(folder / "capture.tar.gz"), str(folder / "capture")))


def evidence_of(setting: str) -> str:
    return f"/proc/irq/9/{setting}" if setting.startswith("smp_") else f"/sys/{FOLDERS[setting]}/{setting}"


@pytest.mark.parametrize(("setting", "program"), [(name, one) for name, found in PROGRAMS.items() for one in found])
def test_a_program_that_sets_a_value_is_kept(tmp_path: Path, setting: str, program: str) -> None:
    host, captured = host_and_capture(tmp_path, {"etc/rc.local": f"#!/bin/sh\n{program} --secret word\n"})
    told = doubt(host, evidence_of(setting), own=False)
    assert told == "/etc/rc.local mentions it and may change it"
    assert doubt(captured, evidence_of(setting), own=False) == told


def test_what_nobody_asks_of_the_host_is_kept_for_who_asks_it_of_the_capture(tmp_path: Path) -> None:
    """A value that is not as wanted needs no next boot for its verdict; another profile may want this very value."""
    host, captured = host_and_capture(tmp_path, {"etc/rc.local": "#!/bin/sh\nsysctl vm.swappiness=60\n"}, live=60)
    told = doubt(host, "/proc/sys/vm/swappiness", own=False)
    assert (
        told == doubt(captured, "/proc/sys/vm/swappiness", own=False) == "/etc/rc.local mentions it and may change it"
    )


@pytest.mark.parametrize(("setting", "option"), [(name, one.rstrip("?")) for name, one in OPTIONS.items()])
def test_an_option_of_tuned_is_kept(tmp_path: Path, setting: str, option: str) -> None:
    files = {
        "etc/tuned/active_profile": "throughput-performance acme-prod\n",
        "etc/tuned/acme-prod/tuned.conf": "[main]\ninclude=acme-base\n",
        "usr/lib/tuned/profiles/acme-base/tuned.conf": f"[x]\n{option} = secret\n",
        "usr/lib/tuned/throughput-performance/tuned.conf": "[main]\nsummary=x\n",
        "etc/systemd/system/multi-user.target.wants/tuned.service": "",
    }
    host, captured = host_and_capture(tmp_path, files)
    told = doubt(host, evidence_of(setting), own=False)
    assert told == "/usr/lib/tuned/profiles/acme-base/tuned.conf mentions it and may change it"
    # The profile's name is its owner's business.
    assert re.sub(r"profile-\w+", "acme-base", doubt(captured, evidence_of(setting), own=False)) == told
    assert not [path for path in (tmp_path / "capture").rglob("*") if "acme" in path.name]
    assert "acme" not in "".join(path.read_text() for path in (tmp_path / "capture").rglob("*") if path.is_file())


def test_a_drop_in_of_a_unit_whose_name_is_its_owners_is_kept_with_the_unit(tmp_path: Path) -> None:
    folder = "etc/systemd/system"
    files = {
        f"{folder}/acme-boot.service": "[Service]\nExecStart=/usr/bin/true\n[Install]\nWantedBy=multi-user.target\n",
        f"{folder}/multi-user.target.wants/acme-boot.service": "",
        f"{folder}/acme-boot.service.d/10-acme.conf": "[Service]\nExecStart=/sbin/sysctl vm.dirty_ratio=3\n",
    }
    host, captured = host_and_capture(tmp_path, files)
    told = doubt(host, "/proc/sys/vm/dirty_ratio", own=False)
    assert told.startswith(f"/{folder}/acme-boot.service.d/10-acme.conf mentions it")
    assert doubt(captured, "/proc/sys/vm/dirty_ratio", own=False).endswith("mentions it and may change it")
    assert not [path for path in (tmp_path / "capture").rglob("*") if "acme" in path.name]
    assert "acme" not in (tmp_path / "capture/manifest.json").read_text()


VALUES = {
    "reserved-cpus": "0-1", "eviction-hard": "memory.available<1Gi,nodefs.available<5%",
    "cpu-manager-policy-options": "full-pcpus-only=true", "topology-manager-policy-options": "prefer-closest-numa-nodes=true",
    "container-runtime-endpoint": "unix:///var/run/crio/crio.sock",
}  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize(
    "unit",
    [
        "ExecStart=/usr/bin/kubelet {}\n",
        'Environment="KUBELET_EXTRA_ARGS={}"\n',
        'Environment="KUBELET_EXTRA_ARGS=--{name}=other" "ACME={}"\nExecStart=/usr/bin/kubelet $KUBELET_EXTRA_ARGS $ACME\n',
        'Environment="KUBELET_EXTRA_ARGS=--{name}=other"\nEnvironment="KUBELET_EXTRA_ARGS="\nExecStart=/usr/bin/kubelet $KUBELET_EXTRA_ARGS {}\n',
        'Environment="ACME=--{name}=other"\nExecStart=/opt/acme/bin/kubelet --v=2 $ACME {}\nExecStartPost=/x/y --{name}=other\n',
        "ExecStart=/usr/bin/kubelet \\\n  --node-ip=10.1.2.3 \\\n# a comment\n  {} \\\n  --v=2\n",
        "ExecStart=/usr/bin/kubelet --{name}=other\nExecStart=\nExecStart=/usr/bin/kubelet {}\n",
    ],
)
def test_a_switch_of_the_kubelet_is_kept(tmp_path: Path, switch: str, unit: str) -> None:
    words = f"--{switch}={VALUES.get(switch, 'static')}"
    text = unit.format(words, name=switch)
    host, captured = host_and_capture(tmp_path, {"etc/systemd/system/kubelet.service": f"[Service]\n{text}"})
    field = kubelet_field(SWITCHES[switch], "not given")
    assert field(host) == field(captured)
    assert "not given" not in str(field(host)) and "other" not in str(field(host))


@pytest.mark.parametrize("file", [*ARGUMENTS, "etc/acme/kubelet.env", "opt/acme/env"])
def test_a_file_of_arguments_is_kept(tmp_path: Path, file: str) -> None:
    unit = f"[Service]\nEnvironmentFile=-/{file}\nExecStart=/usr/bin/kubelet $KUBELET_EXTRA_ARGS\n"
    files = {file: 'KUBELET_EXTRA_ARGS="--cpu-manager-policy static"\n', "etc/systemd/system/kubelet.service": unit}
    host, captured = host_and_capture(tmp_path, files)
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == field(captured) == Value("static")


def test_arguments_of_microk8s_are_kept(tmp_path: Path) -> None:
    host, captured = host_and_capture(tmp_path, {ARGUMENTS[-1]: "--cpu-manager-policy=static\n--node-ip=10.1.2.3\n"})
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == field(captured) == Value("static")


SWAPPINESS, THP = "/proc/sys/vm/swappiness", "/sys/kernel/mm/transparent_hugepage/enabled"


@pytest.mark.parametrize(
    ("script", "text", "evidence"),
    [
        *(
            (f"{folder}/tune.sh", "#!/bin/sh\nsysctl -w vm.swappiness=60\n", SWAPPINESS)
            for folder in (
                "usr/libexec/acme",
                "etc/acme",
                "var/lib/acme",
                "usr/share/acme",
                "data/acme",
                "usr/lib/acme",
            )
        ),
        ("etc/acme/limits.txt", "vm.swappiness = 60\n", SWAPPINESS),
        (
            "usr/local/bin/acme",
            "for d in /sys/kernel/m*; do echo always > $d/transparent_hugepage/enabled; done\n",
            THP,
        ),
        ("etc/acme/x", "tune always ../../sys/kernel/mm/transparent_hugepage/enabled\n", THP),
    ],
)
@pytest.mark.parametrize("called", ["ExecStart=/{}", "ExecStart=/sbin/sysctl -p /{}", "ExecStart=/bin/sh -c '. /{}'"])
def test_a_script_is_looked_at_wherever_it_lies(
    tmp_path: Path, script: str, text: str, evidence: str, called: str
) -> None:
    unit = f"[Service]\n{called.format(script)}\n[Install]\nWantedBy=multi-user.target\n"
    wants = "etc/systemd/system/multi-user.target.wants/tune.service"
    files = {"etc/systemd/system/tune.service": unit, wants: "", script: text}
    files["sys/kernel/mm/transparent_hugepage/enabled"] = "always [madvise] never\n"
    host, captured = host_and_capture(tmp_path, files)
    assert doubt(host, evidence, own=False).endswith("mentions it and may change it")
    assert doubt(captured, evidence, own=False).endswith("mentions it and may change it")
    assert not [path for path in (tmp_path / "capture").rglob("*") if "acme" in path.name]
    assert "acme" not in "".join(path.read_text() for path in (tmp_path / "capture").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "file", [file for file, _ in KNOWN if file] + [f"{folder}/1.conf" for _, folder in KNOWN if folder]
)
def test_a_configuration_is_kept(tmp_path: Path, file: str) -> None:
    host, captured = host_and_capture(tmp_path, {file: '{"cpuManagerPolicy": "static", "nodeIP": "10.1.2.3"}\n'})
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == field(captured)
    assert "10.1.2.3" not in "".join(path.read_text() for path in (tmp_path / "capture").rglob("*") if path.is_file())


def test_a_configuration_whose_name_is_a_variable_is_unknown_in_both(tmp_path: Path) -> None:
    unit = "[Service]\nExecStart=/usr/bin/kubelet --config=$KUBELET_CONFIG\n"
    found = [
        kubelet_field("cpuManagerPolicy", "none")(one)
        for one in host_and_capture(tmp_path, {"etc/systemd/system/kubelet.service": unit})
    ]
    assert found[0] == found[1] != "none"


KUBELET_UNIT = "usr/lib/systemd/system/kubelet.service"


@pytest.mark.parametrize("config", [file for file, _ in KNOWN if file])
def test_a_configuration_that_the_unit_names_is_found_in_both(tmp_path: Path, config: str) -> None:
    unit = f'[Service]\nEnvironment="A=--config=/{config}"\nExecStart=/usr/bin/kubelet $A\n'
    host, captured = host_and_capture(tmp_path, {KUBELET_UNIT: unit, config: "cpuManagerPolicy: static\n"})
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == field(captured) == Value("static")
    assert has_kubelet(host) is has_kubelet(captured) is None


@pytest.mark.parametrize("word", ["kubelet.yaml", "/etc/acme/k.yaml"])
def test_a_configuration_elsewhere_makes_a_capture_no_surer(tmp_path: Path, word: str) -> None:
    unit = f"[Service]\nExecStart=/usr/bin/kubelet --config={word}\n"
    host, captured = host_and_capture(tmp_path, {KUBELET_UNIT: unit, "etc/acme/k.yaml": "cpuManagerPolicy: static\n"})
    field = kubelet_field("cpuManagerPolicy", "none")
    assert not isinstance(field(captured), Value)
    assert isinstance(field(host), Value) is word.startswith("/")


def test_arguments_that_k3s_hands_on_are_kept(tmp_path: Path) -> None:
    files = {
        "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf": "cpuManagerPolicy: none\n",
        "etc/rancher/k3s/config.yaml": "token: HUSH\nkubelet-arg:\n- cpu-manager-policy=static\n- node-ip=10.1.2.3\n",
    }
    host, captured = host_and_capture(tmp_path, files)
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == field(captured) == Value("static")
    text = "".join(path.read_text() for path in (tmp_path / "capture").rglob("*") if path.is_file())
    assert "HUSH" not in text and "10.1.2.3" not in text


def test_folders_among_the_drop_ins_keep_their_order_and_not_their_names(tmp_path: Path) -> None:
    folder = "etc/kubernetes/kubelet/config.json.d"
    files = {
        "etc/kubernetes/kubelet/config.json": "{}", f"{folder}/a/10.conf": "cpuManagerPolicy: static\n",
        f"{folder}/bacme.conf": "cpuManagerPolicy: none\n", f"{folder}/acme/20.conf": "cpuManagerPolicy: static\n",
    }  # fmt: skip
    host, captured = host_and_capture(tmp_path, files)
    field = kubelet_field("cpuManagerPolicy", "x")
    assert field(host) == field(captured) == Value("none")
    assert not [path for path in (tmp_path / "capture").rglob("*") if "acme" in path.name]


def boot_line(facts: Facts) -> str | None:
    try:
        return BootArguments().next_line(facts)
    except (PathMissing, ReadFailed):
        return None


@pytest.mark.parametrize(
    "path",
    ["etc/os-release", "etc/default/grub", "etc/sysctl.d/1.conf", "etc/udev/rules.d/60-x.rules", "boot/grub/grub.cfg", "etc/fstab",
     "etc/kubernetes/kubelet/kubelet-config.json", "etc/modprobe.d/x.conf", "etc/tuned/active_profile", "etc/containerd/config.toml"],
)  # fmt: skip
def test_a_file_that_a_script_names_keeps_its_place_and_its_filter(tmp_path: Path, path: str) -> None:
    """A script that reads a file of the system's makes it no script."""
    text = "menuentry x {\n linux /vmlinuz isolcpus=3\n}\n" if path.endswith("grub.cfg") else "# a text\nx y\n"
    host, _ = host_and_capture(tmp_path, {"etc/rc.local": f"#!/bin/sh\n. /{path}\ncp /{path} /root/keep\n", path: text})
    assert host.host.files.exists(path)
    name = path.rpartition("/")[2].partition(".")[0]
    kept = [one for one in (tmp_path / "capture/root" / path.rpartition("/")[0]).glob("*") if one.is_file()]
    assert kept, name
    assert not list((tmp_path / "capture/root/opt").glob("script-*"))


def test_what_a_script_loads_and_names_is_read_as_before(tmp_path: Path) -> None:
    menu = "menuentry x {\n linux /vmlinuz root=/dev/sda1 isolcpus=3\n}\n"
    files = {"etc/rc.local": "#!/bin/sh\nsysctl -p /etc/sysctl.d/1.conf\ngrub-mkconfig -o /boot/grub/grub.cfg\n",
             "boot/grub/grub.cfg": menu, "etc/default/grub": ""}  # fmt: skip
    host, captured = host_and_capture(tmp_path, files)
    assert "isolcpus=3" in (boot_line(host) or "") and "isolcpus=3" in (boot_line(captured) or "")


K3S = "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00.conf"


@pytest.mark.parametrize(
    ("files", "is_kept"),
    [
        ({"etc/systemd/system/k3s.service": "[Service]\nExecStart=/usr/local/bin/k3s server --kubelet-arg=cpu_manager_policy=static\n"}, True),
        ({"etc/rancher/k3s/config.yaml": "kubelet-arg: [cpu_manager_policy=static]\n"}, True),
        ({"etc/rancher/k3s/config.yaml.d/acme.yaml": "kubelet-arg: [cpu-manager-policy=none]\n",
          "etc/rancher/k3s/config.yaml.d/zacme.yml": "kubelet-arg: [cpu-manager-policy=static]\n"}, True),
        ({"etc/systemd/system/k3s.service": "[Service]\nEnvironmentFile=-/etc/acme/k3s.env\nExecStart=/usr/local/bin/k3s server $X\n",
          "etc/acme/k3s.env": "X=--kubelet-arg=cpu-manager-policy=static\nTOKEN=HUSH\n"}, True),
        ({"etc/systemd/system/k3s.service": "[Service]\nEnvironmentFile=-/etc/systemd/system/%N.service.env\nExecStart=/usr/local/bin/k3s server $X\n",
          "etc/systemd/system/k3s.service.env": "X=--kubelet-arg=cpu-manager-policy=static\n"}, False),
        ({"etc/systemd/system/k3s.service": "[Service]\nExecStart=/usr/local/bin/k3s server --config /etc/acme/k3s.yaml\n",
          "etc/acme/k3s.yaml": "kubelet-arg: [cpu-manager-policy=static]\n"}, False),
    ],
)  # fmt: skip
def test_what_k3s_hands_on_is_the_same_or_unknown_in_a_capture(
    tmp_path: Path, files: dict[str, str], is_kept: bool
) -> None:
    host, captured = host_and_capture(tmp_path, {K3S: "cpuManagerPolicy: none\n", **files})
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(host) == Value("static")
    assert field(captured) == Value("static") if is_kept else not isinstance(field(captured), Value)
    texts = "".join(f"{one}{one.read_text() if one.is_file() else ''}" for one in (tmp_path / "capture").rglob("*"))
    assert "HUSH" not in texts


@pytest.mark.parametrize(
    "command",
    ["kubelet --v=2", "-/usr/bin/kubelet", "/usr/libexec/acme/kubelet --v=2", "/usr/local/bin/hyperkube kubelet", "/opt/acme/bin/start --v=2",
     "/bin/sh -c 'exec /usr/bin/kubelet --v=2'", '"/usr/bin/kubelet" --cpu-manager-policy=static'],
)  # fmt: skip
@pytest.mark.parametrize("program", [b"\x7fELF\2\1", b"#!/bin/sh\nexec /usr/bin/other\n"])
def test_what_starts_the_kubelet_makes_a_capture_no_surer(tmp_path: Path, command: str, program: bytes) -> None:
    files = {
        KUBELET_UNIT: f"[Service]\nExecStart={command}\n",
        "var/lib/kubelet/config.yaml": "cpuManagerPolicy: static\n",
    }
    for path in ("usr/bin/kubelet", "usr/libexec/acme/kubelet", "usr/local/bin/hyperkube", "opt/acme/bin/start"):
        (tmp_path / "host" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "host" / path).write_bytes(program)
    host, captured = host_and_capture(tmp_path, files)
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(captured) == field(host) or not isinstance(field(captured), Value)


def test_paths_that_go_up_make_no_archive_unusable(tmp_path: Path) -> None:
    files = {
        "etc/rc.local": "#!/bin/sh\n/usr/bin/../lib/acme/tune.sh\n/usr/lib/jvm/../java/x\n", "usr/lib/acme/tune.sh": "sysctl vm.swappiness=60\n",
        KUBELET_UNIT: "[Service]\nEnvironmentFile=-/etc/default/../kubelet.env\nExecStart=/usr/bin/kubelet $A\n",
        "etc/kubelet.env": "A=--cpu-manager-policy=static\n", "usr/lib/java/x": "x\n", "usr/lib/jvm/x": "", "etc/default/x": "",
    }  # fmt: skip
    host, captured = host_and_capture(tmp_path, files)
    # A tree does not follow such paths: what they name is not known there either.
    assert doubt(host, SWAPPINESS, own=False) and doubt(captured, SWAPPINESS, own=False)
    assert "acme" not in (tmp_path / "capture/manifest.json").read_text()


@pytest.mark.parametrize("file", ["etc/acme/acme.env", "data/acme/HUSH.env"])
def test_a_file_of_variables_that_is_not_there_is_not_named(tmp_path: Path, file: str) -> None:
    (tmp_path / "host" / file).parent.mkdir(parents=True)
    unit = f"[Service]\nEnvironmentFile=-/{file}\nExecStart=/usr/bin/kubelet $ACME_SECRETS\n"
    host_and_capture(tmp_path, {KUBELET_UNIT: unit})
    texts = "".join(f"{one}{one.read_text() if one.is_file() else ''}" for one in (tmp_path / "capture").rglob("*"))
    assert "acme" not in texts and "HUSH" not in texts and "ACME" not in texts


LEAKING_FILES = (
    "acme-payroll.timer", "mnt-acmevault.mount", "acmesock.socket", "acme.target", "acme.path", "acme-dev.automount",
    "timers.target.wants/acme-payroll.timer", "multi-user.target.wants/acme8.socket", "acme2.path.wants/x.service",
    "acme6.slice.d/1.conf", "acme3.timer.d/1.conf",
)  # fmt: skip
LEAKING_LINES = (
    "curl -XPOST https://hooks.acme.net/services/T0HUSH/B0HUSH", "curl https://u:p@x.org/net/HUSH2", "mount //intranet/HUSH3 /m",
    "cp /mnt/fs/acme-payroll/x /y", "kubelet --reserved-cpus acme-token", "/home/alice/gpu/limits", "/opt/acme-payroll/bin/cpu-performance",
)  # fmt: skip


def test_names_of_people_and_firms_stay_on_the_host(tmp_path: Path) -> None:
    files = {f"etc/systemd/system/{name}": "" for name in LEAKING_FILES}
    files |= {"etc/rc.local": "#!/bin/sh\n" + "\n".join(LEAKING_LINES) + "\n", "home/alice/gpu/limits": "x\n"}
    files |= {"opt/acme-payroll/bin/cpu-performance": "x\n", "etc/tuned/active_profile": "acme-base\n"}
    files |= {
        "etc/systemd/system/multi-user.target.wants/tuned.service": "",
        "etc/tuned/acme-base/tuned.conf": "#" * (6 << 20),
    }
    host_and_capture(tmp_path, files)
    text = "\n".join(
        f"{path.relative_to(tmp_path)}\n{path.read_text() if path.is_file() else ''}"
        for path in (tmp_path / "capture").rglob("*")
    )
    assert not re.findall(r".*(?:acme|HUSH|alice).*", text)


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ({"etc/ufw/ufw.conf": "ENABLED=yes\nIPV6=yes\n", "etc/ufw/sysctl.conf": "vm/stat_interval=1\n"}, False),
    ],
)  # fmt: skip
def test_what_a_switch_of_another_program_decides_is_kept(tmp_path: Path, files: dict[str, str], own: bool) -> None:
    host, captured = host_and_capture(tmp_path, files)
    found = doubt(host, "/proc/sys/vm/stat_interval", own=own)
    assert found and doubt(captured, "/proc/sys/vm/stat_interval", own=own) == found


def test_files_that_the_code_names_keep_their_names() -> None:
    """A file of a fixed name under another one would not be found in a capture."""
    sources = Path(tuneagent.__file__).parent.rglob("*.py")
    named = {
        one for path in sources for one in re.findall(r'"((?:etc|usr|lib|run)/[A-Za-z0-9_./-]+)"', path.read_text())
    }
    assert len(named) > 50
    assert not [path for path in named if CONFIGURED.match(path) and not is_file_name(path.rpartition("/")[2])]


@pytest.mark.parametrize(
    "files",
    [
        {KUBELET_UNIT: '[Service]\nEnvironment="A=--cpu-manager-policy=" "B=static"\nExecStart=/usr/bin/kubelet ${A}${B}\n'},
        {KUBELET_UNIT: '[Service]\nEnvironment="A=--cpu-manager-policy=static --node-ip=10.1.2.3"\nExecStart=/usr/bin/kubelet $A\n'},
        {KUBELET_UNIT: "[Service]\nExecStart=/usr/bin/kubelet --config-dir=/etc/acme/k.d\n", "etc/acme/k.d/1.conf": "cpuManagerPolicy: static\n"},
        {K3S: "cpuManagerPolicy: none\n", "etc/rancher/k3s/config.yaml": "kubelet-arg: ['cpu-manager-policy static']\n"},
    ],
)  # fmt: skip
def test_a_kubelet_is_the_same_or_unknown_in_a_capture(tmp_path: Path, files: dict[str, str]) -> None:
    host, captured = host_and_capture(tmp_path, files)
    field = kubelet_field("cpuManagerPolicy", "none")
    assert field(captured) == field(host) or not isinstance(field(captured), Value)
    texts = "".join(f"{one}{one.read_text() if one.is_file() else ''}" for one in (tmp_path / "capture").rglob("*"))
    assert "acme" not in texts and "10.1.2.3" not in texts


@pytest.mark.parametrize("program", [b"\x7fELF\2", b"", b"\xff\xfe", b"#!/bin/sh\n"])
def test_a_program_in_a_folder_of_its_owners_is_not_named(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "host/data/acme/bin").mkdir(parents=True)
    (tmp_path / "host/data/acme/bin/acme").write_bytes(program)
    host_and_capture(tmp_path, {"etc/rc.local": "#!/bin/sh\n/data/acme/bin/acme --start\n/data/acme/bin\n"})
    assert "acme" not in "".join(str(one) for one in (tmp_path / "capture").rglob("*"))
    assert "acme" not in (tmp_path / "capture/manifest.json").read_text()


def test_what_irqbalance_is_told_is_kept(tmp_path: Path) -> None:
    files = {
        "etc/acme/irq.env": 'IRQBALANCE_BANNED_CPULIST="2-3"\nTOKEN=HUSH\n',
        "usr/lib/systemd/system/irqbalance.service": "[Service]\nEnvironmentFile=-/etc/acme/irq.env\nExecStart=/usr/sbin/irqbalance\n",
    }
    write_tree(tmp_path / "host", files)
    session = session_of(tree(Files(str(tmp_path / "host"))), {"irqbalance": {"bannedCpus": "2-3"}})
    (tmp_path / "capture.tar.gz").write_bytes(take(session.host, [session.profile], registry(), identifiers=False))
    captured = Facts(unpack(str(tmp_path / "capture.tar.gz"), str(tmp_path / "capture")))
    for facts in (Facts(session.host), captured):
        assert registry()["irqbalance"].read(facts, "irqbalance:banned").persisted == Value("2-3")
    texts = "".join(f"{one}{one.read_text() if one.is_file() else ''}" for one in (tmp_path / "capture").rglob("*"))
    assert "HUSH" not in texts and "acme" not in texts
