"""The model of a host's CPUs."""

from __future__ import annotations

from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts


def processor_model(facts: Facts) -> str | None:
    """As /proc/cpuinfo names it; None where it does not, as on many Arm machines."""
    try:
        text = facts.host.files.read_or("proc/cpuinfo", "")
    except ReadFailed:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "model name"), None)
