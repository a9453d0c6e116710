"""Trees of machines that we do not have, generated from descriptions of a few lines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tuneagent.formats.cpulist import format_cpulist, format_cpumask

CPU, NODE, PCI = "sys/devices/system/cpu", "sys/devices/system/node", "sys/bus/pci/devices"
CLASSES = {"gpu": "0x030200", "nic": "0x020000", "nvme": "0x010802", "nvswitch": "0x068000", "rdma": "0x020700"}


def build(machine: dict[str, Any]) -> dict[str, str]:
    """Files of a machine.

    `nodes` packages of one node each with `cores` cores of `smt` threads (siblings numbered as on x86: n and n +
    all cores), `memory_gib` each; `gpu_nodes` further nodes with memory alone; `gpus`, `nics`, `nvme`, `nvswitches`
    as lists of nodes; `arch`, `page_kib`, `l3_per_node`.
    """
    nodes, cores, smt = machine.get("nodes", 1), machine.get("cores", 4), machine.get("smt", 1)
    total = nodes * cores
    cpus_of = {
        node: frozenset(thread * total + node * cores + core for thread in range(smt) for core in range(cores))
        for node in range(nodes)
    }
    files = {f"{CPU}/{name}": f"0-{total * smt - 1}\n" for name in ("online", "possible", "present")}
    files[f"{CPU}/isolated"] = "\n"
    groups = machine.get("l3_per_node", 1)
    for node, cpus in cpus_of.items():
        for core in range(cores):
            siblings = frozenset(thread * total + node * cores + core for thread in range(smt))
            first = node * cores + core // (cores // groups) * (cores // groups)
            shared = frozenset(
                thread * total + first + number for thread in range(smt) for number in range(cores // groups)
            )
            for cpu in siblings:
                base = f"{CPU}/cpu{cpu}"
                files[f"{base}/topology/core_cpus_list"] = format_cpulist(siblings) + "\n"
                files[f"{base}/topology/physical_package_id"] = f"{node}\n"
                files[f"{base}/topology/package_cpus_list"] = format_cpulist(cpus) + "\n"
                files[f"{base}/cache/index3/level"] = "3\n"
                files[f"{base}/cache/index3/shared_cpu_list"] = format_cpulist(shared) + "\n"
    numbers = [*range(nodes), *machine.get("gpu_nodes", [])]
    files[f"{NODE}/online"] = format_cpulist(numbers) + "\n"
    for row, number in enumerate(numbers):
        base = f"{NODE}/node{number}"
        kib = machine.get("memory_gib", 64) * 1048576
        files[f"{base}/cpulist"] = format_cpulist(cpus_of.get(number, ())) + "\n"
        files[f"{base}/distance"] = " ".join("10" if row == other else "21" for other in range(len(numbers))) + "\n"
        files[f"{base}/meminfo"] = (
            f"Node {number} MemTotal:       {kib} kB\nNode {number} MemFree:        {kib // 2} kB\n"
        )
        files[f"{base}/hugepages/hugepages-2048kB/nr_hugepages"] = "0\n"
        files[f"{base}/hugepages/hugepages-1048576kB/nr_hugepages"] = "0\n"
    for kind in ("gpu", "nic", "nvme", "nvswitch"):
        for index, node in enumerate(machine.get(f"{kind}s" if kind != "nvme" else "nvme", [])):
            files.update(device(kind, index, node, cpus_of.get(node, frozenset(range(total * smt)))))
    files["proc/cpuinfo"] = {
        "x86_64": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme lm\nmicrocode\t: 0x2b\n",
        "aarch64": "processor\t: 0\nFeatures\t: fp asimd\nCPU architecture: 8\n",
    }[machine.get("arch", "x86_64")]
    if machine.get("arch") == "aarch64":
        files["proc/sys/kernel/arch"] = "aarch64\n"
    huge = {4: 2048, 64: 524288}[machine.get("page_kib", 4)]
    files["proc/meminfo"] = f"MemTotal: {nodes * machine.get('memory_gib', 64) * 1048576} kB\nHugepagesize: {huge} kB\n"
    return files


def device(kind: str, index: int, node: int, near: frozenset[int]) -> dict[str, str]:
    """One PCI function; addresses count up by kind."""
    bus = {"gpu": 0x1B, "nic": 0x4B, "nvme": 0x7B, "nvswitch": 0xAB}[kind] + index
    base = f"{PCI}/0000:{bus:02x}:00.0"
    vendor = {"gpu": "0x10de", "nvswitch": "0x10de", "nic": "0x15b3", "nvme": "0x144d"}[kind]
    files = {
        f"{base}/class": CLASSES[kind] + "\n",
        f"{base}/vendor": vendor + "\n",
        f"{base}/device": "0x2330\n",
        f"{base}/numa_node": f"{node}\n",
        f"{base}/local_cpulist": format_cpulist(near) + "\n",
        f"{base}/local_cpus": format_cpumask(near) + "\n",
    }
    if kind == "nic":
        files[f"{base}/net/eth{index}/ifindex"] = f"{index + 2}\n"
        files[f"sys/class/net/eth{index}/operstate"] = "up\n"
    if kind == "nvme":
        files[f"{base}/nvme/nvme{index}/nvme{index}n1/size"] = "1\n"
    return files


def address(kind: str, index: int = 0) -> str:
    """PCI address that `device` gives."""
    return f"0000:{ {'gpu': 0x1B, 'nic': 0x4B, 'nvme': 0x7B, 'nvswitch': 0xAB}[kind] + index:02x}:00.0"


def counted_audit(root: Path) -> tuple[int, int, float]:
    """Files read, bytes and milliseconds of one audit with the profile `training` on a tree."""
    from support import session_of, tree
    from tuneagent.host.files import Files
    from tuneagent.profile_files.resolve import builtin
    from tuneagent.tunables.registry import registry, resolved

    sizes: list[int] = []

    class Counted(Files):
        def read_bytes(self, path: str) -> bytes:
            data = super().read_bytes(path)
            sizes.append(len(data))
            return data

    found = builtin("training")
    assert found is not None
    session = session_of(tree(Counted(str(root))), resolved(found, registry()).spec.tune)
    started = time.perf_counter()
    session.observe()
    return len(sizes), sum(sizes), (time.perf_counter() - started) * 1000
