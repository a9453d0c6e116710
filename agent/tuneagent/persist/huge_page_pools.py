"""Huge pages that the next boot reserves by itself: on the kernel's line, then by vm.nr_hugepages in sysctl.d."""

from __future__ import annotations

from tuneagent.contracts.values import Absent, Observation, Value
from tuneagent.facts.host_name import is_older
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.hugetlb_line import Count, default_size, reserved
from tuneagent.formats.kernel_line import by_name
from tuneagent.formats.sysctl_d import taken
from tuneagent.persist.boot_arguments import at_next_boot, known_next_line
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
    if not written and not at_next_boot(facts, "hugepages"):
        return Value(0)
    line = known_next_line(facts)
    default_kib = _default_kib(facts, line)
    if default_kib is None:
        return Absent("the default size of huge pages at the next boot is not known")
    if written and kib == default_kib:
        return _share(facts, node, kib, written[-1])
    sizes = [int(text) for text in map(_kib_of, facts.host.files.names(_POOLS.format(node))) if text.isdigit()]
    return _share(facts, node, kib, reserved(line, default_kib, sizes).get(kib, 0))


def _kib_of(folder: str) -> str:
    """`2048` of `hugepages-2048kB`."""
    return folder.removeprefix("hugepages-").removesuffix("kB")


def _share(facts: Facts, node: int, kib: int, count: Count) -> Observation:
    memory = {one.id: one.memory_kib for one in facts.topology.nodes if one.memory_kib != 0}
    if isinstance(count, dict):
        if is_older(facts.host, _NODES_SINCE):
            return Absent("kernels before 5.16 do not read pages of single nodes on their line")
        # Pages of 1 GiB for which their node has no room come from another one, without a word.
        full = next((one for one, pages in count.items() if pages and not _has_room(memory.get(one), pages, kib)), None)
        if full is not None:
            return Absent(f"{count[full]} pages may not fit into node {full} at the next boot")
        return Value(count.get(node, 0))
    if None in memory.values():
        return Value(0) if count == 0 else Absent("how the pages are spread over the nodes is decided at boot")
    if node not in memory:
        return Value(0)
    share, rest = divmod(count, len(memory))
    if rest or not all(_has_room(size, share, kib) for size in memory.values()):
        return Absent(f"{count} pages do not spread evenly over {len(memory)} nodes at the next boot")
    return Value(share)


def _has_room(memory_kib: int | None, pages: int, kib: int) -> bool:
    """Whether the pages fit for certain. Those of 1 GiB need whole GiB, and what else is on a node cuts some up."""
    spare = 2 if kib >= _GIB else 1
    return memory_kib is not None and (pages + spare) * kib <= 0.9 * memory_kib


def _default_kib(facts: Facts, line: str) -> int | None:
    """The default size at the next boot: what its line says, else that of now unless the running line set it."""
    given = default_size(line)
    if given is not None:
        return given
    now = facts.host.observe("proc/cmdline")
    if isinstance(now, Value) and "default_hugepagesz" in by_name(str(now.value)):
        return None
    return running_default_kib(facts)


def running_default_kib(facts: Facts) -> int | None:
    """The default size of huge pages of the running kernel; None where it is not known."""
    memory = facts.host.observe("proc/meminfo")
    lines = str(memory.value).splitlines() if isinstance(memory, Value) else []
    words = next((line.split() for line in lines if line.startswith("Hugepagesize:")), [])
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
