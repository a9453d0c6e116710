"""Arguments of the running kernel."""

from __future__ import annotations

from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.kernel_line import split_line


def words_of_cmdline(facts: Facts) -> list[str] | Absent | Unreadable:
    """The arguments of /proc/cmdline, without their quotes."""
    seen = facts.host.observe("proc/cmdline")
    return split_line(str(seen.value)) if isinstance(seen, Value) else seen
