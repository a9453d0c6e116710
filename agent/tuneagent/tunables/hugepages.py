"""hugepages: reserved pages by NUMA node and size (Documentation/admin-guide/mm/hugetlbpage.rst).

The kernel takes a count that it cannot serve without an error and gives fewer. All or nothing here: what was
given is said, and released again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import ReadFailed, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.huge_page_pools import pool_at_boot
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading, winner
from tuneagent.tunables.base import Tunable

BASE = "sys/devices/system/node"
_ALL_NODES = "sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages"
_SIZES = {"64Ki": 64, "2Mi": 2048, "16Mi": 16384, "32Mi": 32768, "512Mi": 524288, "1Gi": 1048576, "16Gi": 16777216}
_SUBJECT = lazy_regex(r"node:(\d+)/hugepages-(\d+)kB\Z")


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Pages of one size: as many on each NUMA node, or a count on the node given."""

    size: Annotated[
        str, Meta(description="Page size: 64Ki, 2Mi, 16Mi, 32Mi, 512Mi, 1Gi or 16Gi, as the host offers it.")
    ]
    per_numa_node: Annotated[int | None, Meta(description="Pages on each NUMA node that has CPUs and memory.")] = None
    node: Annotated[int | None, Meta(description="Number of one NUMA node; with `count`.")] = None
    count: Annotated[int | None, Meta(description="Pages on `node`.")] = None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pools; sizes and nodes that are not named are left alone."""

    pages: tuple[Pool, ...]


def _node_and_kib(subject: Subject) -> tuple[str, str]:
    match = _SUBJECT.match(subject)
    if match is None:
        raise ReadFailed(f"{subject!r} is not a pool of huge pages")
    return match.group(1), match.group(2)


def _path(subject: Subject) -> str:
    node, kib = _node_and_kib(subject)
    return f"{BASE}/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"


class Hugepages(Tunable[Spec, int]):
    """Reserved huge pages of each NUMA node."""

    name = "hugepages"
    group = "hugepages"
    spec_type = Spec
    value_type = int
    subject_pattern = r"node:[0-9]+/hugepages-[0-9]+kB"
    about = About(
        Severity.HIGH,
        "pages on the wrong node make every access cross the socket link; too few make consumers fail at start",
        ("https://docs.kernel.org/admin-guide/mm/hugetlbpage.html",),
        "after a change at run time the kubelet shows the new capacity only after it has been restarted",
    )
    all_or_nothing = True
    drop_in = TmpfilesD()

    def check(self, spec: Spec) -> list[str]:
        """Unknown sizes, counts out of range, a node named twice."""
        faults = []
        seen: set[tuple[str, int | None]] = set()
        for number, pool in enumerate(spec.pages):
            where = f".pages[{number}]"
            if pool.size not in _SIZES:
                faults.append(f"{where}.size: {pool.size!r} is not one of {', '.join(_SIZES)}")
            by_node = pool.node is not None and pool.count is not None
            if by_node == (pool.per_numa_node is not None) or (pool.node is None) != (pool.count is None):
                faults.append(f"{where}: give either perNumaNode, or node and count")
            for value in (pool.per_numa_node, pool.node, pool.count):
                if value is not None and not 0 <= value <= 1 << 24:
                    faults.append(f"{where}: {value} is out of range")
            if (pool.size, pool.node) in seen:
                faults.append(f"{where}: this size and node are given twice")
            seen.add((pool.size, pool.node))
        return faults

    def _wanted(self, facts: Facts, spec: Spec) -> dict[Subject, int]:
        wanted: dict[Subject, int] = {}
        # Pools for one node come last, so that they win over `perNumaNode` of the same size.
        for pool in sorted(spec.pages, key=lambda pool: pool.node is not None):
            kib = _SIZES[pool.size]
            if pool.node is not None:
                wanted[f"node:{pool.node}/hugepages-{kib}kB"] = pool.count or 0
                continue
            for node in facts.topology.nodes:
                # A node without memory, or GPU memory shown as one, has no pool of its own to fill.
                if node.cpus and node.memory_kib != 0 and facts.host.files.exists(f"{BASE}/node{node.id}/hugepages"):
                    wanted[f"node:{node.id}/hugepages-{kib}kB"] = pool.per_numa_node or 0
        return wanted

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each node and size."""
        return sorted(self._wanted(facts, spec)) or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Pages of the pool now, and at the next boot by tmpfiles.d, else by the kernel's line and sysctl.d."""
        if subject == "host":
            if facts.topology.numa_nodes is None:
                return Reading(Unreadable("the NUMA nodes of this host are not known"), evidence=f"/{BASE}")
            return Reading(Absent("no NUMA node has huge pages"), evidence=f"/{BASE}")
        path = _path(subject)
        seen = facts.host.observe(path)
        live: Observation = seen
        if isinstance(seen, Value):
            known = re.match(r"\d{1,12}\Z", str(seen.value))
            live = Value(int(str(seen.value))) if known else Unreadable(f"/{path}: {seen.value!r} is not a count")
        try:
            default = pool_at_boot(facts, *map(int, _node_and_kib(subject)))
        except ReadFailed as error:
            default = Unreadable(str(error))
        found = reading(facts, path, live, int, default=default)
        doubt = default.why if found.persisted is default and isinstance(default, Absent) else ""
        line = winner(facts, _ALL_NODES.format(_node_and_kib(subject)[1]))
        if line is not None:
            doubt = f"{line.file} sets the total for all nodes"
        return msgspec.structs.replace(found, doubt=doubt) if doubt else found

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, int]:
        """Pages of each pool."""
        return self._wanted(facts, spec)

    def refuse(self, facts: Facts, subject: Subject, desired: int) -> str | None:
        """More pages than the node's free and reclaimable memory can give."""
        match = _SUBJECT.match(subject)
        if match is None:
            return f"{subject!r} is not a pool of huge pages"
        now = facts.host.files.read_or(_path(subject), "0")
        more = (int(desired) - int(now)) * int(match.group(2)) if now.isdigit() else 0
        text = facts.host.files.read_or(f"{BASE}/node{match.group(1)}/meminfo", "")
        fields = {name: int(kib) for name, kib in re.findall(r"Node \d+ (\w+(?:\(\w+\))?):\s+(\d+) kB", text)}
        if more <= 0 or "MemFree" not in fields:
            return None
        room = fields["MemFree"] + fields.get("Inactive(file)", 0) + fields.get("SReclaimable", 0)
        if more > room:
            return f"needs {more} KiB more on node {match.group(1)}, which has {room} KiB free or reclaimable"
        return None

    def write(self, facts: Facts, subject: Subject, value: int) -> None:
        """Set the pool; raises WriteFailed with the count given where the kernel gave fewer."""
        path = _path(subject)
        facts.host.files.write(path, f"{value}\n")
        given = facts.host.files.read(path)
        if given != str(value):
            raise WriteFailed(f"/{path}: {value} pages asked, {given} given")

    def entries(self, subject: Subject, value: int) -> Entries:
        """One `w` line."""
        return {_path(subject): str(value)}


TUNABLE = Hugepages()
