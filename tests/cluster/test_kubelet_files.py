"""The kubelet's files and switches as the kubelet itself takes them: random ones, and the configuration that it prints."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support import tree
from tuneagent.contracts.values import Value
from tuneagent.facts.kubelet import kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

COUNT = 5_000 if os.environ.get("TUNEAGENT_SOAK") else 300
HEAD = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
# What the cluster's own machine may need to start a kubelet at all.
FIRST = {**HEAD, "failCgroupV1": False}
CHOICES: dict[str, tuple[object, ...]] = {
    "cpuManagerPolicy": ("none", "static"),
    "topologyManagerPolicy": ("none", "best-effort", "restricted", "single-numa-node"),
    "topologyManagerScope": ("container", "pod"),
    "memoryManagerPolicy": ("None", "Static"),
    "cgroupDriver": ("systemd", "cgroupfs"),
    "reservedSystemCPUs": ("0", "0-1", "0,2-3"),
    "cpuManagerPolicyOptions": ({"full-pcpus-only": "true"}, {"distribute-cpus-across-numa": "true"}, {"full-pcpus-only": None}, {}),
    "topologyManagerPolicyOptions": ({"prefer-closest-numa-nodes": "true"}, {"max-allowable-numa-nodes": "9"}),
    "evictionHard": ({"memory.available": "100Mi"}, {"memory.available": "1Gi", "nodefs.available": "5%"}, {"memory.available": None}),
    "containerRuntimeEndpoint": ("unix:///run/containerd/containerd.sock", "unix:///var/run/crio/crio.sock"),
}  # fmt: skip
SWITCHES = {
    "cpu-manager-policy": ("none", "static"),
    "cpu-manager-policy-options": ("full-pcpus-only=true", "full-pcpus-only=false,distribute-cpus-across-numa=true"),
    "topology-manager-policy": ("best-effort", "single-numa-node"),
    "topology-manager-scope": ("container", "pod"),
    "memory-manager-policy": ("None", "Static"),
    "reserved-cpus": ("1", "2-3"),
    "cgroup-driver": ("systemd", "cgroupfs"),
    "container-runtime-endpoint": ("unix:///run/other.sock",),
    "eviction-hard": ("memory.available<2Gi", "memory.available<3Gi,imagefs.available<4%"),
}


def _fields(dice: random.Random) -> dict[str, object]:
    names = dice.sample(list(CHOICES), dice.randint(0, 5))
    return {name: None if dice.random() < 0.08 else dice.choice(CHOICES[name]) for name in names}


def _text(dice: random.Random, document: dict[str, object]) -> str:
    if dice.random() < 0.4:
        return json.dumps(document)
    lines = [f"{name}: {json.dumps(value)}" for name, value in document.items()]
    dice.shuffle(lines)
    return "\n".join([*lines, "# a comment", ""])


def _make(root: Path, dice: random.Random) -> list[str]:
    """Write one host's files. Its kubelet's switches."""
    config, folder = root / "etc/k/config.yaml", root / "etc/k/config.d"
    config.parent.mkdir(parents=True)
    (root / "var/lib/kubelet").mkdir(parents=True)
    config.write_text(_text(dice, {**FIRST, **_fields(dice)}))
    switches = ["--config=/etc/k/config.yaml"]
    if dice.random() < 0.7:
        switches.append("--config-dir=/etc/k/config.d")
        folder.mkdir()
        for name in dice.sample(
            ("10.conf", "9.conf", "a.conf", "B.conf", ".b.conf", "c.CONF", "d.yaml", "c.conf/1.conf", "sub/5.conf"),
            dice.randint(0, 4),
        ):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(_text(dice, {**HEAD, **_fields(dice)}))
    for name in dice.choices(list(SWITCHES), k=dice.randint(0, 3)):
        switches.append(f"--{name}{dice.choice(('=', ' '))}{dice.choice(SWITCHES[name])}")
    dice.shuffle(switches)
    words = [f'"{one}"' if "<" in one and " " not in one and dice.random() < 0.5 else one for one in switches]
    unit = root / "etc/systemd/system/kubelet.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nExecStart=/usr/bin/kubelet {' '.join(words)}\n")
    return shlex.split(" ".join(words))


def _theirs(kubelet: Path, root: Path, words: list[str]) -> dict[str, Any] | None:
    """What the kubelet prints before it finds that it has no cluster; None for what it does not start with."""
    given = [re.sub(r"(?<![\w:/.])/etc/k/", f"{root}/etc/k/", word) for word in words]
    own = [f"--root-dir={root}/kubelet", f"--cert-dir={root}/certs", "-v=5"]
    done = subprocess.run([kubelet, *given, *own], capture_output=True, text=True, timeout=60, check=False)
    said = re.search(r'"KubeletConfiguration" configuration=<\n(.*?)\n >', done.stderr, re.DOTALL)
    if said is None:
        assert "failed to" in done.stderr, done.stderr[-2000:]
        return None
    found = json.loads(said.group(1))
    return {name.lower(): value for name, value in found.items()}


def test_random_files_are_read_as_the_kubelet_reads_them(cache: Path, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    kubelet = cache / "bin/kubelet"
    plain = tmp_path / "plain"
    (plain / "etc/k").mkdir(parents=True)
    (plain / "etc/k/config.yaml").write_text(json.dumps(FIRST))
    default = _theirs(kubelet, plain, ["--config=/etc/k/config.yaml"])
    assert default is not None
    compared = 0
    for number in range(COUNT):
        root = tmp_path / "tree"
        words = _make(root, random.Random(f"{seed} {number}"))
        theirs = _theirs(kubelet, root, words)
        if theirs is not None:
            compared += 1
            facts = Facts(tree(Files(str(root))))
            for name in CHOICES:
                ours = kubelet_field(name, default[name.lower()])(facts)
                assert isinstance(ours, Value), (ours, words)
                # An empty mapping and none at all are the same to it.
                assert (ours.value or None) == (theirs[name.lower()] or None), f"{seed} {number}: {name}: {words}"
        shutil.rmtree(root)
    assert compared >= 0.6 * COUNT, compared
