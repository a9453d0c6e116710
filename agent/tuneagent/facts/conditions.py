"""Why a row of a table does not apply to this host: the reason, or None where the row applies or may apply."""

from __future__ import annotations

import re

from tuneagent.contracts.values import Absent, Unreadable
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts


def several_nodes(facts: Facts) -> str | None:
    """More than one NUMA node has CPUs."""
    if facts.topology.numa_nodes is not None and sum(bool(node.cpus) for node in facts.topology.nodes) < 2:
        return "one NUMA node"
    return None


def metal(facts: Facts) -> str | None:
    """Not inside a virtual machine, as far as the CPU flags say."""
    try:
        flags = re.search(r"^(flags|Features)\s*:.*$", facts.host.files.read("proc/cpuinfo"), re.MULTILINE)
    except (PathMissing, ReadFailed):
        return None
    return "a virtual machine" if flags and " hypervisor" in flags.group(0) else None


def x86(facts: Facts) -> str | None:
    """An x86 machine."""
    arch = facts.topology.arch
    return None if arch in (None, "x86_64", "i686") else f"{arch} machine"


def arm64(facts: Facts) -> str | None:
    """An arm64 machine."""
    arch = facts.topology.arch
    return None if arch in (None, "aarch64") else f"{arch} machine"


def nothing_known(facts: Facts, folder: str) -> Unreadable | None:
    """Why a folder's absence says nothing, as in a tree that lacks what is above it. None where it says something."""
    # Captures of earlier versions do not tell which folders their machine lacked.
    is_old = facts.host.source == "capture" and facts.host.taken is None
    if facts.host.files.exists(folder) or is_old:
        return None
    missing = facts.host.missing(folder)
    return missing if isinstance(missing, Unreadable) else None


def has_rdma(facts: Facts) -> str | None:
    """There is an RDMA device, or it is not known whether there is one."""
    folder = "sys/class/infiniband"
    if facts.host.files.names(folder) or nothing_known(facts, folder) is not None:
        return None
    return "no RDMA device"


def has_nvidia_gpu(facts: Facts) -> str | None:
    """There is an NVIDIA GPU on the PCI bus."""
    gpus = facts.topology.pci_gpus
    if gpus is None or any(device.vendor == "10de" for device in gpus):
        return None
    return "no NVIDIA GPU"


def has_several_gpus(facts: Facts) -> str | None:
    """There is more than one NVIDIA GPU."""
    gpus = facts.topology.pci_gpus
    return (
        "one GPU, nothing to link it with" if gpus is not None and sum(g.vendor == "10de" for g in gpus) == 1 else None
    )


def has_systemd(facts: Facts) -> str | None:
    """systemd is the host's pid 1."""
    sign = "run/systemd/system"
    if facts.host.files.exists(sign):
        return None
    # A capture that holds nothing of /run may hold what systemctl answered.
    without = isinstance(facts.host.missing(sign), Absent) or facts.host.lacks_systemd
    return "systemd does not run here" if without else None


_RUNTIMES = (
    "run/containerd", "etc/containerd", "usr/bin/containerd", "usr/local/bin/containerd", "run/crio", "etc/crio",
    "usr/bin/crio", "var/run/docker.sock", "usr/bin/dockerd", "run/k3s", "run/podman", "usr/bin/podman",
)  # fmt: skip


def has_runtime(facts: Facts) -> str | None:
    """A container runtime is installed."""
    if any(facts.host.files.exists(sign) for sign in _RUNTIMES):
        return None
    known = all(isinstance(facts.host.missing(sign), Absent) for sign in _RUNTIMES)
    return "no container runtime" if known else None


def has_nvswitch(facts: Facts) -> str | None:
    """There is an NVSwitch on the PCI bus: an NVIDIA bridge that is not a PCI bridge (class 0680)."""
    return "no NVSwitch" if facts.topology.nvswitches == () else None
