"""The CPU plan: which CPUs are kept for the system's own work, and which are left to jobs. Pure.

Computed for the topology as it will be after the profile is in force (SMT off takes siblings away), and bound to
that topology's fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.topology.picture import Topology


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`perNumaNode` whole cores on each node that has CPUs, `cores` of the host in all, or the CPUs themselves.

    `topology` is the fingerprint that the plan was made for; on a host with a different one the plan is held.
    """

    per_numa_node: Annotated[int | None, Meta(description="Whole cores on each NUMA node that has CPUs.")] = None
    cores: Annotated[int | None, Meta(description="Whole cores of the host in all.")] = None
    cpus: Annotated[str | None, Meta(description="The CPUs themselves, in kernel notation.")] = None
    topology: Annotated[
        str | None,
        Meta(description="Fingerprint of the topology that the plan was made for; on any other the plan is held."),
    ] = None


class CpuPlan(msgspec.Struct, frozen=True):
    """CPUs for the system and CPUs for jobs, as lists; `faults` say why the plan is refused."""

    reserved: frozenset[int]
    isolated: frozenset[int]
    fingerprint: str
    faults: tuple[str, ...] = ()
    # Why the plan does not fit the CPUs that are online now.
    waits: str | None = None


def fingerprint(topology: Topology, cores: Sequence[frozenset[int]]) -> str:
    """Hash of what a plan is derived from: cores, nodes and L3 groups. 12 hexadecimal digits."""
    online = frozenset().union(*cores) if cores else frozenset()
    parts = [
        *(format_cpulist(core) for core in cores),
        *(f"{node.id}:{format_cpulist(node.cpu_set & online)}" for node in topology.nodes),
        *(format_cpulist(parse_cpulist(group) & online) for group in topology.l3_groups or ()),
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def cores_of(topology: Topology, *, smt: bool | None) -> list[frozenset[int]]:
    """Cores as they will be: whole, or with the first sibling alone where SMT is to be off."""
    cores = topology.whole_cores(topology.online)
    return [frozenset({min(core)}) for core in cores] if smt is False else cores


def make(topology: Topology, spec: Spec, *, smt: bool | None = None) -> CpuPlan:
    """The plan for a host. Faults and nothing reserved where it is refused."""
    now = cores_of(topology, smt=None)
    cores = cores_of(topology, smt=smt)
    mark = fingerprint(topology, cores)
    if not cores:
        return CpuPlan(frozenset(), frozenset(), mark, ("the cores of this host are not known",))
    waits = None
    possible = parse_cpulist(topology.cpulist_possible or "")
    if smt is True and topology.smt == 1 and len(possible) > len(topology.online):
        waits = "planned for SMT on, but SMT is not on yet"
    if mark != fingerprint(topology, now):
        waits = "planned for SMT off, but SMT is not off yet"
    if spec.topology is not None and spec.topology != mark:
        waits = f"made for topology {spec.topology}; this host's is {mark}"
    nodes = [frozenset(node.cpu_set) for node in topology.nodes if node.cpus] or [topology.online]
    reserved = parse_cpulist(spec.cpus) if spec.cpus is not None else _choose(topology, cores, nodes, spec)
    online = frozenset().union(*cores)
    faults = tuple(judge(reserved, cores, nodes))
    if faults:
        return CpuPlan(frozenset(), frozenset(), mark, faults, waits)
    return CpuPlan(reserved, online - reserved, mark, (), waits)


def judge(reserved: frozenset[int], cores: Sequence[frozenset[int]], nodes: Sequence[frozenset[int]]) -> list[str]:
    """Why this choice is not possible: CPU 0 isolated, siblings split, a node without housekeeping, nothing left."""
    online = frozenset().union(*cores)
    faults = []
    if reserved - online:
        faults.append(f"CPUs {format_cpulist(reserved - online)} will not be online")
    if 0 in online and 0 not in reserved:
        faults.append("CPU 0 must stay for housekeeping: it serves what cannot be moved")
    split = sorted(format_cpulist(core) for core in cores if core & reserved and not core <= reserved)
    if split:
        faults.append(f"splits the SMT siblings {', '.join(split)}")
    for node in nodes:
        if node & online and not node & reserved:
            faults.append(f"leaves the node of CPUs {format_cpulist(node)} without a CPU for housekeeping")
    if not online - reserved:
        faults.append("leaves no CPU for jobs")
    return faults


def _choose(
    topology: Topology, cores: Sequence[frozenset[int]], nodes: Sequence[frozenset[int]], spec: Spec
) -> frozenset[int]:
    counts = [spec.per_numa_node or 1] * len(nodes)
    if spec.per_numa_node is None and spec.cores is not None:
        # At least one core per node; the rest where the fewest GPUs and NICs are near.
        counts = [1] * len(nodes)
        near = [_devices_near(topology, node) for node in nodes]
        sizes = [sum(core <= node for core in cores) for node in nodes]
        for _ in range(max(spec.cores - len(nodes), 0)):
            free = [number for number in range(len(nodes)) if counts[number] < sizes[number] - 1]
            if not free:
                break
            counts[min(free, key=lambda number: (near[number], counts[number], number))] += 1
    chosen: frozenset[int] = frozenset()
    for node, count in zip(nodes, counts, strict=True):
        ordered = _by_preference(topology, [core for core in cores if core <= node])
        chosen = chosen.union(*ordered[:count]) if ordered else chosen
    return chosen


def _devices_near(topology: Topology, cpus: frozenset[int]) -> int:
    """GPUs and NICs whose near CPUs are among these."""
    count = 0
    for device in (*(topology.pci_gpus or ()), *(topology.nics or ())):
        near = topology.local_cpus(device)
        count += near is not None and bool(near) and near <= cpus
    return count


def _by_preference(topology: Topology, cores: list[frozenset[int]]) -> list[frozenset[int]]:
    """Cores of a node: that of CPU 0 first, then by L3 group, the one with the fewest devices near first."""
    groups = [parse_cpulist(group) for group in topology.l3_groups or ()]

    def group_of(core: frozenset[int]) -> frozenset[int]:
        return next((group for group in groups if core & group), frozenset())

    first = next((group_of(core) for core in cores if 0 in core), None)

    def key(core: frozenset[int]) -> tuple[bool, bool, int, int, int]:
        group = group_of(core)
        return (0 not in core, group != first, _devices_near(topology, group), min(group, default=0), min(core))

    return sorted(cores, key=key)
