"""Limits that services of this host start with."""

from __future__ import annotations

import re

from tuneagent.contracts.values import Observation, Unreadable, Value
from tuneagent.errors import CommandFailed
from tuneagent.facts.one_pass import Facts

_LIMIT_LINES = {
    "memlock": "Max locked memory",
    "nofile": "Max open files",
    "stack": "Max stack size",
    "nproc": "Max processes",
}


def service_limit(facts: Facts, name: str) -> Observation:
    """Soft limit that a service starts with: systemd's default, or that of pid 1 where systemd cannot be asked.

    systemd raises its own limits above those that it passes on, so those of pid 1 are the second choice.
    """
    key = f"DefaultLimit{name.upper()}Soft"
    try:
        done = facts.host.exec.run(["systemctl", "show", f"--property={key}"])
        match = re.search(rf"^{key}=(\S+)$", done.stdout, re.MULTILINE)
        if done.code == 0 and match:
            return Value(match.group(1))
    except CommandFailed:
        pass
    seen = facts.host.observe("proc/1/limits")
    if not isinstance(seen, Value):
        return seen
    match = re.search(rf"^{_LIMIT_LINES[name]}\s+(\S+)", str(seen.value), re.MULTILINE)
    if match is None:
        return Unreadable(f"/proc/1/limits: no line `{_LIMIT_LINES[name]}`")
    return Value("infinity" if match.group(1) == "unlimited" else match.group(1))
