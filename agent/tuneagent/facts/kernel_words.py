"""Arguments of the running kernel."""

from __future__ import annotations

from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.facts.one_pass import Facts


def words_of_cmdline(facts: Facts) -> list[str] | Absent | Unreadable:
    """The words of /proc/cmdline, as they stand there."""
    seen = facts.host.observe("proc/cmdline")
    return str(seen.value).split() if isinstance(seen, Value) else seen
