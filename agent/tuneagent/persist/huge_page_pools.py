"""Huge pages that the next boot reserves by itself: on the kernel's line, then by vm.nr_hugepages in sysctl.d."""

from __future__ import annotations

from tuneagent.contracts.values import Absent, Observation, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.hugetlb_line import Count, default_size, reserved
from tuneagent.formats.kernel_line import by_name
from tuneagent.formats.sysctl_d import taken
from tuneagent.persist.boot_arguments import at_next_boot, known_next_line
from tuneagent.persist.sysctl_d import at_boot

KEY = "vm.nr_hugepages"
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
    if isinstance(count, dict):
        return Value(count.get(node, 0))
    nodes = [one for one in facts.topology.nodes if one.memory_kib != 0]
    memory = [one.memory_kib for one in nodes]
    if any(size is None for size in memory):
        return Value(0) if count == 0 else Absent("how the pages are spread over the nodes is decided at boot")
    if node not in [one.id for one in nodes]:
        return Value(0)
    share, rest = divmod(count, len(nodes))
    if rest or (share + 1) * kib > 0.9 * min(size for size in memory if size is not None):
        return Absent(f"{count} pages do not spread evenly over {len(nodes)} nodes at the next boot")
    return Value(share)


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
