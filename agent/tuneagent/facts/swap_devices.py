"""Swap in use."""

from __future__ import annotations

from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.facts.one_pass import Facts


def swap_devices(facts: Facts) -> list[str] | Absent | Unreadable:
    """Devices and files in use as swap."""
    seen = facts.host.observe("proc/swaps")
    if not isinstance(seen, Value):
        return seen
    lines = str(seen.value).splitlines()
    if not lines or not lines[0].startswith("Filename"):
        return Unreadable("/proc/swaps: not its format")
    return sorted(line.split()[0] for line in lines[1:] if line.split())
