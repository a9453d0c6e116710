"""containerd and CRI-O: which files count, and what they say together. Their own readers: host and cluster tier."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tree, write_tree
from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.facts.container_runtime import gpu_ways, systemd_cgroup
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

V2, V3 = 'plugins."io.containerd.grpc.v1.cri"', 'plugins."io.containerd.cri.v1.runtime"'
ETC = "etc/containerd/config.toml"
SYSTEMD = "\nSystemdCgroup = true\n"


def facts_of(
    root: Path, files: dict[str, str], folders: tuple[str, ...] = ("etc/containerd", "etc/crio", "var/lib/kubelet")
) -> Facts:
    write_tree(root, files, folders)
    return Facts(tree(Files(str(root))))


def runtime(table: str, name: str, options: str = SYSTEMD) -> str:
    kind = f'[{table}.containerd.runtimes.{name}]\nruntime_type = "io.containerd.runc.v2"\n'
    return f"{kind}[{table}.containerd.runtimes.{name}.options]{options}"


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        ({ETC: f"version = 3\n{runtime(V3, 'runc')}"}, Value(True)),
        ({ETC: f"version = 2\n{runtime(V2, 'runc')}"}, Value(True)),
        ({ETC: f"[plugins.cri.containerd.runtimes.runc.options]{SYSTEMD}"}, None),  # 2.x takes no file of version 1
        ({ETC: "version = 3\n"}, Value(False)),
        # The old name in a new file, and the new name in an old one.
        ({ETC: f"version = 3\n{runtime(V2, 'runc')}"}, None),  # 2.3 takes it
        ({ETC: f"version = 2\n{runtime(V3, 'runc')}"}, None),  # 1.x does not
        # One of two runtimes without it is enough to work against the kubelet.
        ({ETC: f"version = 3\n{runtime(V3, 'runc')}{runtime(V3, 'nvidia', chr(10))}"}, Value(False)),
        # Imports: a glob, a path that counts from the folder of the file, a file that imports itself.
        ({ETC: 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
          "etc/containerd/conf.d/10.toml": f"version = 3\n{runtime(V3, 'runc')}"}, Value(True)),
        ({ETC: 'version = 3\nimports = ["./a.toml"]\n',
          "etc/containerd/a.toml": f"version = 3\nimports = ['config.toml']\n{runtime(V3, 'runc')}"}, Value(True)),
        ({ETC: 'version = 3\nimports = ["b.toml"]\n'}, Unreadable),
        # 1.x replaces what the first file says of the plug-in, 2.x merges it.
        ({ETC: f"version = 2\nimports = ['/etc/containerd/b.toml']\n{runtime(V2, 'runc')}",
          "etc/containerd/b.toml": f"version = 2\n[{V2}.containerd]\ndefault_runtime_name = 'nvidia'\n"}, None),
        # A file that containerd would not start with.
        ({ETC: "[plugins\n"}, Unreadable),
        # Elsewhere, and named by the unit.
        ({"var/lib/rancher/k3s/agent/etc/containerd/config.toml": f"version = 3\n{runtime(V3, 'runc')}"}, Value(True)),
        ({ETC: "version = 3\n", "opt/c.toml": f"version = 3\n{runtime(V3, 'runc')}",
          "etc/systemd/system/containerd.service": "[Service]\nExecStart=/usr/bin/containerd --config /opt/c.toml\n"}, Value(True)),
        # No file: every release starts without it.
        ({"usr/bin/containerd": ""}, Value(False)),
        ({}, Absent),
        # CRI-O: systemd by itself; drop-ins in order, whatever they are called.
        ({"etc/crio/crio.conf": ""}, Value(True)),
        ({"etc/crio/crio.conf": "[crio.runtime]\ncgroup_manager = 'systemd'\n",
          "etc/crio/crio.conf.d/99-x": "[crio.runtime]\ncgroup_manager = 'cgroupfs'\n"}, Value(False)),
        # Both are there: the kubelet says which.
        ({ETC: "version = 3\n", "etc/crio/crio.conf": "",
          "var/lib/kubelet/config.yaml": "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n"}, Value(True)),
        ({ETC: "version = 3\n", "etc/crio/crio.conf": ""}, Value(False)),
        ({ETC: "version = 3\n", "etc/crio/crio.conf": "",
          "etc/default/kubelet": "KUBELET_EXTRA_ARGS=--container-runtime-endpoint=/run/crio/crio.sock\n"}, Value(True)),
        # What a comment says, and a unit that another one overrides.
        ({ETC: "version = 3\n", "etc/crio/crio.conf": "",
          "etc/default/kubelet": "#KUBELET_EXTRA_ARGS=--container-runtime-endpoint=/run/crio/crio.sock\n"}, Value(False)),
        ({ETC: "version = 3\n", "etc/crio/crio.conf": "", "etc/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet\n",
          "lib/systemd/system/kubelet.service": "[Service]\nExecStart=kubelet --container-runtime-endpoint=/run/crio/crio.sock\n"},
         Value(False)),
        # What the kubelet is told cannot be read.
        ({ETC: "version = 3\n", "etc/crio/crio.conf": "", "var/lib/kubelet/config.yaml": "- a list\n"}, Unreadable),
    ],
)  # fmt: skip
def test_who_manages_the_cgroups(tmp_path: Path, files: dict[str, str], seen: Observation | type | None) -> None:
    found = systemd_cgroup(facts_of(tmp_path, files))
    if isinstance(seen, Value):
        assert found == seen
    else:
        assert isinstance(found, seen or Unreadable)
        assert seen is not None or "containerd releases read these files differently" in str(found)


@pytest.mark.parametrize(
    ("files", "ways"),
    [
        ({ETC: "version = 3\n"}, ["CDI"]),
        ({ETC: f"version = 3\n[{V3}]\nenable_cdi = false\n"}, None),  # 2.4 has it always
        ({ETC: f"version = 2\n[{V2}]\nenable_cdi = true\n{runtime(V2, 'nvidia')}"}, ["nvidia runtime", "CDI"]),
        ({ETC: f"version = 2\n{runtime(V2, 'nvidia')}"}, ["nvidia runtime"]),  # by 1.x too, which has no CDI
        ({ETC: f'version = 2\n{runtime(V2, "runc")}BinaryName = "/usr/bin/nvidia-container-runtime"\n'}, ["nvidia runtime"]),
        ({ETC: "version = 2\n"}, None),
        # What is installed tells the generation.
        ({ETC: "version = 2\n", "usr/bin/containerd-shim": "", "usr/bin/containerd-shim-runc-v2": ""}, []),
        ({ETC: "version = 2\n", "usr/local/bin/containerd-shim-runc-v2": ""}, ["CDI"]),
        ({"etc/crio/crio.conf.d/10.conf": "[crio.runtime.runtimes.nvidia]\n"}, ["nvidia runtime", "CDI"]),
        ({"etc/crio/crio.conf": ""}, ["CDI"]),
    ],
)  # fmt: skip
def test_how_a_container_gets_a_gpu(tmp_path: Path, files: dict[str, str], ways: list[str] | None) -> None:
    found = gpu_ways(facts_of(tmp_path, files))
    assert found == Value(ways) if ways is not None else isinstance(found, Unreadable)
