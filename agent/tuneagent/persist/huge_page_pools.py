"""Huge pages that the next boot reserves by itself: on the kernel's line, then by vm.nr_hugepages in sysctl.d."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.values import Absent, Observation, Value
from tuneagent.facts.host_name import is_older
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.hugetlb_line import Count, default_size, reserved
from tuneagent.formats.kernel_line import by_name
from tuneagent.formats.sysctl_d import taken
from tuneagent.persist.boot_arguments import at_next_boot, is_line_known, known_next_line
from tuneagent.persist.sysctl_d import at_boot

KEY = "vm.nr_hugepages"
# The first kernel that reads pages of single nodes on its line.
_NODES_SINCE = (5, 16)
_GIB = 1 << 20
_POOLS = "sys/devices/system/node/node{}/hugepages"


def pool_at_boot(facts: Facts, node: int, kib: int) -> Observation:
    """Pages of one size on one node where no file sets that pool itself. Raises ReadFailed.

    A number for all nodes is spread evenly over those that have memory; where that is not certain, it says why.
    """
    written = [found[0] for one in at_boot(facts, KEY) if (found := taken(one.value, 1))]
    if not at_next_boot(facts, "hugepages"):
        if not is_line_known(facts) and "hugepages" in _running_arguments(facts):
            return Absent("the kernel line of the next boot is not known, and this boot's reserves pages")
        if not written:
            return Value(0)
    line = known_next_line(facts)
    default_kib = _default_kib(facts, line)
    if default_kib is None:
        return Absent("the default size of huge pages at the next boot is not known")
    sizes = [int(text) for text in map(_kib_of, facts.host.files.names(_POOLS.format(node))) if text.isdigit()]
    on_line = reserved(line, default_kib, sizes)
    if written and kib == default_kib:
        if isinstance(on_line.get(kib, 0), dict):
            # The number of all nodes is reached from what the line gave each of them.
            return Absent(f"{KEY} changes pages that the kernel line gives single nodes")
        on_line[kib] = written[-1]
    return _share(facts, node, kib, on_line)


def _kib_of(folder: str) -> str:
    """`2048` of `hugepages-2048kB`."""
    return folder.removeprefix("hugepages-").removesuffix("kB")


def _share(facts: Facts, node: int, kib: int, pages: Mapping[int, Count]) -> Observation:
    """Pages of one size on one node; `pages` are those of every size, which all need room."""
    count = pages.get(kib, 0)
    memory = {one.id: one.memory_kib for one in facts.topology.nodes if one.memory_kib != 0}
    if isinstance(count, dict):
        if is_older(facts.host, _NODES_SINCE):
            return Absent("kernels before 5.16 do not read pages of single nodes on their line")
        # Pages of 1 GiB for which their node has no room come from another one, without a word.
        full = next((one for one, asked in count.items() if asked and not _has_room(memory, one, pages)), None)
        if full is not None:
            return Absent(f"{count[full]} pages may not fit into node {full} at the next boot")
        return Value(count.get(node, 0))
    if None in memory.values():
        return Value(0) if count == 0 else Absent("how the pages are spread over the nodes is decided at boot")
    if node not in memory:
        return Value(0)
    share, rest = divmod(count, len(memory))
    if rest or (count and not all(_has_room(memory, one, pages) for one in memory)):
        return Absent(f"{count} pages do not spread evenly over {len(memory)} nodes at the next boot")
    return Value(share)


def _has_room(memory: Mapping[int, int | None], node: int, pages: Mapping[int, Count]) -> bool:
    """Whether pages of all sizes fit for certain. Those of 1 GiB need whole GiB, of which other memory cuts some."""
    size = memory.get(node)
    needed = 0
    for kib, count in pages.items():
        here = count.get(node, 0) if isinstance(count, dict) else -(-count // max(len(memory), 1))
        needed += (here + (2 if kib >= _GIB else 1)) * kib if here else 0
    return size is not None and needed <= 0.9 * size


def _running_arguments(facts: Facts) -> dict[str, list[str | bool]]:
    now = facts.host.observe("proc/cmdline")
    return by_name(str(now.value)) if isinstance(now, Value) else {}


def _default_kib(facts: Facts, line: str) -> int | None:
    """The default size at the next boot: what its line says, else that of now unless the running line set it."""
    given = default_size(line)
    if given is not None:
        return given
    if "default_hugepagesz" in _running_arguments(facts):
        return None
    return running_default_kib(facts)


def running_default_kib(facts: Facts) -> int | None:
    """The default size of huge pages of the running kernel; None where it is not known."""
    memory = facts.host.observe("proc/meminfo")
    lines = str(memory.value).splitlines() if isinstance(memory, Value) else []
    words = next((line.split() for line in lines if line.startswith("Hugepagesize:")), [])
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
