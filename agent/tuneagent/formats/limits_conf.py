"""limits.conf(5): the limits that a login gets. The host tier compares with logins through pam_limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

INFINITY = "infinity"
IN_BYTES = ("memlock", "stack")
_NO_LIMIT = ("unlimited", "infinity", "-1")
_EVERYONE, _ROOT = "*", "root"


class Line(NamedTuple):
    """One limit for a domain: everyone, a user, a group. Bytes for memlock and stack, counts for the others."""

    domain: str
    kind: str  # soft, hard, or - for both
    item: str
    value: str


class LoginLimit(NamedTuple):
    """What lines give; None where none does."""

    soft: str | None
    hard: str | None


def parse(text: str) -> list[Line]:
    """Lines of one file in its order; those that pam_limits would ignore are left out."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 4:
            continue
        domain, kind, item, value = words[0], *(word.lower() for word in words[1:4])
        if kind not in ("soft", "hard", "-"):
            continue
        if value in _NO_LIMIT:
            found.append(Line(domain, kind, item, INFINITY))
        elif number := re.match(r"\+?\d{1,15}", value):
            # What follows the digits is not looked at: 8G is eight.
            found.append(Line(domain, kind, item, str(int(number.group(0)) * (1024 if item in IN_BYTES else 1))))
    return found


def limit_of(lines: Iterable[Line], item: str, domain: str) -> LoginLimit:
    """What a login of a domain gets from all files in their order: its own lines count more than those for everyone.

    The lines for everyone are not for root.
    """
    soft: tuple[int, str | None] = (0, None)
    hard: tuple[int, str | None] = (0, None)
    for line in lines:
        rank = 2 if line.domain == domain != _EVERYONE else 1 if line.domain == _EVERYONE and domain != _ROOT else 0
        if line.item != item or rank == 0:
            continue
        if line.kind != "hard":
            # A line for both that comes too late for the soft one is left out whole.
            if rank < soft[0]:
                continue
            soft = (rank, line.value)
        if line.kind != "soft" and rank >= hard[0]:
            hard = (rank, line.value)
    return LoginLimit(soft[1], hard[1])


def domains(lines: Iterable[Line]) -> list[str]:
    """Everyone, root, and whoever else a line is for."""
    return list(dict.fromkeys((_EVERYONE, _ROOT, *(line.domain for line in lines))))
