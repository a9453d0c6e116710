"""The probes: one row each, and the cases that a host has for it. What each kernel measures: native/main.c."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tuneagent.contracts.proof import Better
from tuneagent.errors import ReadFailed, Unsupported
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.topology.picture import NumaNode, PciDevice

_CPUS_OF_A_PROBE = 8
_NVIDIA = "10de"
_PAGES = {"base": "base pages", "thp": "transparent huge pages", "hugetlb": "huge pages of the pool"}
_WAKEUPS, _LAUNCHES, _TRIPS, _BATCHES = 2000, 5000, 5000, 100
# Larger than caches, and small enough for any host: MiB that are touched, that a walk goes through, that are copied.
_TOUCHED, _WALKED, _COPIED, _READ = 256, 512, 256, 512


class Place(NamedTuple):
    """Where to measure: CPUs that may be used, and the folder for a file."""

    cpus: frozenset[int]
    folder: str


class Case(NamedTuple):
    """One run of a kernel; `latency_us` keeps deeper idle states off meanwhile."""

    name: str
    arguments: tuple[str, ...]
    latency_us: int | None = None


Cases = Callable[[Facts, Place], Sequence[Case]]


class Probe(NamedTuple):
    """One probe. Samples are multiplied by `scale`; `statistic` is what of a repeat's samples counts."""

    name: str
    title: str
    does: str
    kernel: str
    unit: str
    scale: float
    better: Better
    statistic: str
    cases: Cases
    # Of the samples, where it is another.
    other_unit: str = ""


def _usable(facts: Facts, place: Place) -> list[NumaNode]:
    """Nodes with CPUs that may be used. Raises Unsupported."""
    found = [one for one in facts.topology.nodes if one.cpu_set & place.cpus]
    if not found:
        raise Unsupported("no NUMA node with CPUs that may be used is known")
    return found


def _memory_nodes(facts: Facts) -> list[NumaNode]:
    return [one for one in facts.topology.nodes if one.memory_kib is None or one.memory_kib >= 4 * _WALKED * 1024]


def _first(node: NumaNode, place: Place) -> str:
    return str(min(node.cpu_set & place.cpus))


def _some_cpus(facts: Facts, place: Place) -> list[tuple[int, str]]:
    """Isolated CPUs, the first of each node, and the last one; each with its name."""
    try:
        isolated = parse_cpulist(facts.host.files.read_or("sys/devices/system/cpu/isolated", "")) & place.cpus
    except (ReadFailed, ValueError):
        isolated = frozenset()
    others = [int(_first(node, place)) for node in _usable(facts, place)]
    chosen = list(dict.fromkeys([*sorted(isolated)[: _CPUS_OF_A_PROBE // 2], max(place.cpus), *others]))
    return [
        (cpu, f"CPU {cpu}, isolated" if cpu in isolated else f"CPU {cpu}") for cpu in sorted(chosen[:_CPUS_OF_A_PROBE])
    ]


def _jitter(facts: Facts, place: Place) -> list[Case]:
    return [Case(name, (str(cpu), "500")) for cpu, name in _some_cpus(facts, place)]


def _wakeup(facts: Facts, place: Place) -> list[Case]:
    return [
        Case(f"{name}, {state}", (str(cpu), "500", str(_WAKEUPS)), limit)
        for cpu, name in _some_cpus(facts, place)
        for state, limit in (("any idle state", None), ("no idle state", 0))
    ]


def _one_cpu(*arguments: str) -> Cases:
    return lambda facts, place: [Case(name, (str(cpu), *arguments)) for cpu, name in _some_cpus(facts, place)[:1]]


def _pages(*arguments: str) -> Cases:
    def cases(facts: Facts, place: Place) -> list[Case]:
        return [
            Case(f"node {node.id}, {words}", (_first(node, place), str(node.id), kind, *arguments))
            for node in _usable(facts, place)
            if node in _memory_nodes(facts)
            for kind, words in _PAGES.items()
        ]

    return cases


def _latency(facts: Facts, place: Place) -> list[Case]:
    return [
        Case(f"CPUs of node {node.id}, memory of node {other.id}",
             (_first(node, place), str(other.id), "base", str(_WALKED), "20"))
        for node in _usable(facts, place)
        for other in _memory_nodes(facts)
    ]  # fmt: skip


def _bandwidth(facts: Facts, place: Place) -> list[Case]:
    def mib(cpus: int, memory_kib: int | None) -> int:
        """Of one array: four times what caches may hold, and a twelfth of the memory at most."""
        return max(min(64 * cpus, 2048, (memory_kib or 4 << 20) // 1024 // 12), cpus)

    return [
        Case(f"CPUs of node {node.id}, memory of node {other.id}",
             (format_cpulist(node.cpu_set & place.cpus), str(other.id),
              str(mib(len(node.cpu_set & place.cpus), other.memory_kib)), "10"))
        for node in _usable(facts, place)
        for other in _memory_nodes(facts)
    ]  # fmt: skip


def _loopback(facts: Facts, place: Place) -> list[Case]:
    nodes = _usable(facts, place)
    cpus = sorted(nodes[0].cpu_set & place.cpus)
    pairs = [(f"two CPUs of node {nodes[0].id}", cpus[0], cpus[-1])] if len(cpus) > 1 else []
    pairs += [(f"nodes {nodes[0].id} and {one.id}", cpus[0], min(one.cpu_set & place.cpus)) for one in nodes[1:2]]
    if not pairs:
        raise Unsupported("it needs two CPUs")
    return [Case(name, (str(one), str(other), str(_TRIPS))) for name, one, other in pairs]


def _storage(facts: Facts, place: Place) -> list[Case]:
    del facts
    kinds = (("read ahead", "sequential"), ("nothing read ahead", "random"))
    return [Case(f"{place.folder}, {words}", (place.folder, str(_READ), kind, "1")) for words, kind in kinds]


def _gpus(facts: Facts) -> list[PciDevice]:
    """NVIDIA's GPUs. Raises Unsupported where there is none."""
    found = [one for one in facts.topology.pci_gpus or () if one.vendor == _NVIDIA]
    if not found:
        raise Unsupported("no NVIDIA GPU")
    return found


def _sides(facts: Facts, place: Place, gpu: PciDevice) -> Iterable[tuple[str, str]]:
    """CPUs near a GPU, and those of the farthest node if there are several; each with their name."""
    own = facts.topology.node_of(gpu)
    nodes = _usable(facts, place)
    if own is None or own not in [one.id for one in nodes]:
        return [("any CPU", format_cpulist(place.cpus))]
    near = next(one for one in nodes if one.id == own)
    others = sorted((one for one in nodes if one.id != own), key=lambda one: -_distance(near, one))
    return [(f"CPUs of node {one.id}", format_cpulist(one.cpu_set & place.cpus)) for one in (near, *others[:1])]


def _distance(node: NumaNode, other: NumaNode) -> int:
    distances = node.distances or ()
    return distances[other.id] if other.id < len(distances) else 0


def _gpu(*arguments: str) -> Cases:
    def cases(facts: Facts, place: Place) -> list[Case]:
        return [
            Case(f"{gpu.address}, {words}", (gpu.address, cpus, *arguments))
            for gpu in _gpus(facts)
            for words, cpus in _sides(facts, place, gpu)
        ]

    return cases


def _copies(facts: Facts, place: Place) -> list[Case]:
    return [
        Case(f"{case.name}, {way}, {kind}", (*case.arguments, way, kind, str(_COPIED), "20"))
        for case in _gpu()(facts, place)
        for way in ("in", "out")
        for kind in ("pinned", "pageable")
    ]


def _peers(facts: Facts, place: Place) -> list[Case]:
    del place
    first, *others = _gpus(facts)
    if not others:
        raise Unsupported("only one GPU")
    return [
        Case(f"{first.address} to {one.address}", (first.address, one.address, str(_COPIED), "20")) for one in others
    ]


PROBES = (
    Probe("jitter", "time that interrupts and other work take from a busy CPU", "keeps one CPU at a time busy",
          "jitter", "us/s", 1e-3, "lower", "sum", _jitter, "us"),
    Probe("wakeup", "how late a sleeping thread wakes, with idle states and without", "wakes 2,000 times a second",
          "wakeup", "us", 1e-3, "lower", "p99", _wakeup),
    Probe("clock", "one reading of the clock", "keeps one CPU busy", "clock", "ns", 1.0, "lower", "p50",
          _one_cpu("500")),
    Probe("syscall", "one call of the kernel", "keeps one CPU busy", "syscall", "ns", 1.0, "lower", "p50",
          _one_cpu("500")),
    Probe("touch", "memory used for the first time, by kind of pages", f"takes {_TOUCHED} MiB of each node in turn",
          "touch", "GiB/s", 1.0, "higher", "p50", _pages(str(_TOUCHED), "5")),
    Probe("gather", "one load from a random place, by kind of pages", f"takes {_WALKED} MiB of each node in turn",
          "chase", "ns", 1.0, "lower", "p50", _pages(str(_WALKED), "20")),
    Probe("memory-latency", "one load from a random place, node to node", f"takes {_WALKED} MiB of each node in turn",
          "chase", "ns", 1.0, "lower", "p50", _latency),
    Probe("memory-bandwidth", "memory read and written by all CPUs of a node (triad), node to node",
          "keeps all CPUs of a node and its memory busy", "bandwidth", "GB/s", 1.0, "higher", "p50", _bandwidth),
    Probe("loopback", "a message by TCP there and back", "keeps two CPUs busy", "tcp", "us", 1e-3, "lower", "p50",
          _loopback),
    Probe("storage-read", "a file read in order, with and without reading ahead",
          f"writes a file of {_READ} MiB, reads it, and removes it", "storage", "MB/s", 1.0, "higher", "p50", _storage),
    Probe("gpu-copy", "memory copied to a GPU and back, by CPUs near and far",
          f"takes {_COPIED} MiB of a GPU, and its link", "gpu-copy", "GB/s", 1.0, "higher", "p50", _copies),
    Probe("gpu-launch", "a launch on a GPU until its end is seen", "shares a GPU with whoever uses it", "gpu-launch",
          "us", 1e-3, "lower", "p99.9", _gpu(str(_LAUNCHES))),
    Probe("gpu-allocation", "memory pinned for a GPU", f"pins {_COPIED} MiB", "gpu-allocation", "GiB/s", 1.0, "higher",
          "p50", _gpu(str(_COPIED), "10")),
    Probe("gpu-peer", "memory copied from GPU to GPU", f"takes {_COPIED} MiB of each, and their links", "gpu-peer",
          "GB/s", 1.0, "higher", "p50", _peers),
    Probe("gpu-feed", "batches that a CPU makes, copies, and a GPU works on",
          "keeps one CPU busy, and shares a GPU with whoever uses it", "gpu-feed", "batches/s", 1.0, "higher", "p50",
          _gpu(str(_BATCHES))),
)  # fmt: skip
# What a quiet host is told by, without a GPU.
QUIET = ("jitter", "wakeup", "clock", "syscall", "touch", "gather", "memory-latency", "memory-bandwidth", "loopback")
