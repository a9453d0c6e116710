"""gpuProcesses: where running GPU processes may run and where their memory lies, against their GPU's NUMA node."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, Union

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Absent, Dispute, Lifetime, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import ReadFailed, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.topology.picture import Topology
from tuneagent.tunables.base import Tunable

_SUBJECT = lazy_regex(r"pid:(\d+)@(\d+)@([0-9a-f-]*)(/memory)?\Z")
# Share of a process's memory on its GPU's node, below which it counts as remote.
LOCAL_SHARE = 0.9


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared, and whether a running process may be pinned; `drift: repair` never implies it."""

    cpus: Literal["local"] | None = None
    memory: Literal["prefer-local"] | None = None
    action: Literal["report", "pin", "migrate"] = "report"


class WantedCpus(msgspec.Struct, frozen=True):
    """The CPUs next to a process's GPU, as a kernel CPU list."""

    cpus: str


class WantedMemory(msgspec.Struct, frozen=True):
    """The nodes next to a process's GPU, and the others that have CPUs."""

    near: tuple[int, ...]
    far: tuple[int, ...]


# CPU lists of the threads, or shares of memory by node, as found; the other two are what is wanted.
Placement = Union[list[str], dict[str, float], WantedCpus, WantedMemory]


class GpuProcesses(Tunable[Spec, Placement]):
    """Affinity and memory node of running GPU processes."""

    name = "gpuProcesses"
    group = "numa"
    spec_type = Spec
    value_type = list[str] | dict[str, float]
    subject_pattern = r"pid:[0-9]+@[0-9]+@[0-9a-f-]*(/memory)?"
    about = About(
        Severity.MEDIUM,
        "a process that feeds a GPU from the other socket crosses the socket link for every copy and launch",
        ("https://docs.kernel.org/admin-guide/mm/numa_memory_policy.html",),
        "start it with `tuneagent run`, so that its memory is local from the first touch",
        dispute=Dispute(
            "PyTorch: 1 to 10 % from binding; 22 % of pages were remote in one report",
            "a vLLM author measured none; a cpuset for the whole container did nothing",
            "pin each rank by itself, from its start; measure before and after",
        ),
    )
    lifetime = Lifetime.PROCESS

    def check(self, spec: Spec) -> list[str]:
        """An action without the setting that it acts on."""
        needed = {"report": True, "pin": spec.cpus, "migrate": spec.memory}[spec.action]
        setting = {"pin": "cpus: local", "migrate": "memory: prefer-local"}.get(spec.action)
        return [] if needed else [f".action: {spec.action} needs {setting}"]

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """CPUs and memory of each process that NVML lists; `host` where NVML cannot be asked or lists none."""
        found: list[Subject] = []
        for pid in sorted(_gpus_by_pid(facts)):
            try:
                started = facts.host.processes.started(pid)
            except ReadFailed:
                # It has ended, or is in another PID namespace: there is nothing to report.
                continue
            subject = f"pid:{pid}@{started}@{facts.boot_id}"
            found += [subject] if spec.cpus else []
            found += [f"{subject}/memory"] if spec.memory else []
        return found or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Allowed CPUs over all threads, or the share of its memory on each node."""
        match = _SUBJECT.match(subject)
        if match is None:
            if isinstance(facts.gpus, GpuSnapshot):
                pids = sorted(_gpus_by_pid(facts))
                if pids:
                    text = f"{len(pids)} processes use a GPU, but none can be inspected from here"
                    return Reading(Unreadable(text), evidence="NVML")
                return Reading(Absent("no process uses a GPU now"), evidence="NVML")
            return Reading(facts.gpus, evidence="NVML")
        pid = int(match.group(1))
        evidence = f"/proc/{pid}/numa_maps" if match.group(4) else f"/proc/{pid}/task/*, sched_getaffinity"
        try:
            if not _is_same(facts, match):
                return Reading(Absent("that process has ended"), evidence=evidence)
            if match.group(4):
                return Reading(Value(_memory(facts, pid)), evidence=evidence)
            sets = {format_cpulist(cpus) for cpus in facts.host.processes.affinity(pid)}
            return Reading(Value(sorted(sets)), evidence=evidence)
        except ReadFailed as error:
            return Reading(Unreadable(str(error)), evidence=evidence)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Placement]:
        """CPUs and memory node of the process's GPUs; nothing where the host does not say which are near."""
        desired: dict[Subject, Placement] = {}
        used = _gpus_by_pid(facts)
        for subject in readings:
            match = _SUBJECT.match(subject)
            if match is None:
                continue
            cpus = _local_cpus(facts.topology, used.get(int(match.group(1)), []))
            if not cpus:
                continue
            if match.group(4):
                near, far = _nodes(facts.topology, cpus)
                desired[subject] = WantedMemory(tuple(near), tuple(far))
            else:
                desired[subject] = WantedCpus(format_cpulist(cpus))
        return desired

    def matches(self, subject: Subject, observed: Placement, desired: Placement) -> bool:
        """Every thread inside the local CPUs; enough memory on the local nodes. A saved list equals itself."""
        if isinstance(desired, WantedCpus) and isinstance(observed, list):
            wanted = parse_cpulist(desired.cpus)
            return all(parse_cpulist(text) <= wanted for text in observed)
        if isinstance(desired, WantedMemory) and isinstance(observed, dict):
            near, far = (sum(observed.get(str(node), 0.0) for node in nodes) for nodes in (desired.near, desired.far))
            return bool(far == 0 or near / (near + far) >= LOCAL_SHARE)
        # The kernel moves what it can: pinned memory stays, and the next audit says how much that is.
        return subject.endswith("/memory") or bool(observed == desired)

    def shown(self, subject: Subject, desired: Placement) -> Placement:
        """CPU lists, or the minimum share on all nodes next to the GPU together."""
        if isinstance(desired, WantedMemory):
            return {",".join(str(node) for node in desired.near): LOCAL_SHARE}
        return [desired.cpus] if isinstance(desired, WantedCpus) else desired

    def comparison(self, subject: Subject, desired: Placement) -> Comparison:
        """Threads may use fewer than all local CPUs; memory has a minimum share."""
        return "atLeast" if isinstance(desired, WantedMemory) else "rule"

    def written(self, desired: Placement) -> Placement:
        """The CPU list that every thread then has, or the minimum share on the nodes to which pages are moved."""
        if isinstance(desired, WantedMemory):
            return {str(node): 1.0 for node in desired.near}
        return [desired.cpus] if isinstance(desired, WantedCpus) else desired

    def refuse(self, facts: Facts, subject: Subject, desired: Placement) -> str | None:
        """Any action that the profile does not name."""
        spec = facts.specs.get(self.name)
        action = spec.action if isinstance(spec, Spec) else "report"
        if isinstance(desired, WantedMemory):
            return None if action == "migrate" else f"action is {action}"
        return "action is report" if action == "report" else None

    def one_way(self, subject: Subject) -> str | None:
        """The earlier node of each page is not recorded."""
        return "pages stay where they are until the process ends" if subject.endswith("/memory") else None

    def write(self, facts: Facts, subject: Subject, value: Placement) -> None:
        """Pin every thread, or move its pages. Undo gives all threads the widest set that any of them had."""
        match = _SUBJECT.match(subject)
        if match is None or not _is_same(facts, match):
            raise WriteFailed(f"{subject}: that process has ended")
        pid = int(match.group(1))
        if isinstance(value, dict):
            self._move(facts, pid, sorted(int(node) for node in value))
        elif isinstance(value, list):
            facts.host.processes.pin(pid, sorted(frozenset().union(*(parse_cpulist(text) for text in value))))

    @staticmethod
    def _move(facts: Facts, pid: int, target: list[int]) -> None:
        near = frozenset().union(*(node.cpu_set for node in facts.topology.nodes if node.id in target))
        if not frozenset().union(*facts.host.processes.affinity(pid)) <= near:
            raise WriteFailed(f"pid {pid} may run on CPUs that are far from its GPU: its pages stay where they are")
        _, far = _nodes(facts.topology, near)
        facts.host.processes.migrate(pid, far, target)


def _nodes(topology: Topology, cpus: frozenset[int]) -> tuple[list[int], list[int]]:
    """Nodes of these CPUs, and the other nodes that have CPUs. A node with memory only, such as a GPU's, is neither."""
    with_cpus = [node for node in topology.nodes if node.cpu_set]
    return [node.id for node in with_cpus if node.cpu_set & cpus], [n.id for n in with_cpus if not n.cpu_set & cpus]


def _gpus_by_pid(facts: Facts) -> dict[int, list[str]]:
    return facts.gpus.users() if isinstance(facts.gpus, GpuSnapshot) else {}


def _local_cpus(topology: Topology, addresses: Sequence[str]) -> frozenset[int]:
    near: frozenset[int] = frozenset()
    for address in addresses:
        device = topology.pci(address)
        local = topology.local_cpus(device) if device else None
        if local is None:
            return frozenset()
        near |= local
    return near


def _is_same(facts: Facts, match: re.Match[str]) -> bool:
    if match.group(3) != facts.boot_id:
        return False
    try:
        return facts.host.processes.started(int(match.group(1))) == int(match.group(2))
    except ReadFailed:
        if not facts.host.exec.available:
            raise
        return False


def _memory(facts: Facts, pid: int) -> dict[str, float]:
    """Share of a process's memory on each node, rounded down, so that slightly too little does not look like enough."""
    by_node = facts.host.processes.pages_by_node(pid)
    total = max(sum(by_node.values()), 1)
    return {str(node): math.floor(kib * 10_000 / total) / 10_000 for node, kib in sorted(by_node.items())}


TUNABLE = GpuProcesses()
