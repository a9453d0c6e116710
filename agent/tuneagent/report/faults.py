"""Faults of a profile as a compiler shows them: what is wrong, where, and the line itself."""

from __future__ import annotations

import re

from tuneagent.errors import ProfileInvalid
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.yaml_positions import Place, positions
from tuneagent.report.terminal import clean

_LINE = lazy_regex(r"line (\d+)(?:, column (\d+))?: (.*)\Z")
# What a fault is about: everything before its first colon and space.
_PATH = lazy_regex(r"([^\s:]+): (.*)\Z", re.DOTALL)
# Faults of names are about the key, all others about its value.
_OF_NAMES = ("unknown", "missing", "not a key", "not an argument", "not a service", "belongs to", "two names")


def faults_text(error: ProfileInvalid, source: str, text: str) -> str:
    """Every fault with its place in the document, then how many there are."""
    places, lines = positions(text), text.splitlines()
    blocks = [_block(fault, source, places, lines) for fault in error.faults]
    count = len(blocks)
    return "\n".join([*blocks, f"tuneagent: {source}: {count} fault{'' if count == 1 else 's'}, nothing was done"])


def _block(fault: str, source: str, places: dict[str, Place], lines: list[str]) -> str:
    place, told = _place(fault, places)
    head = f"error: {clean(told)}"
    if place is None or not 1 <= place.line <= len(lines):
        return f"{head}\n  --> {source}\n"
    line = clean(lines[place.line - 1]).rstrip()
    number = str(place.line)
    gutter = " " * len(number)
    mark = " " * (place.column - 1) + "^" * min(place.length, max(len(line) - place.column + 1, 1))
    return (
        f"{head}\n{gutter}--> {source}:{place.line}:{place.column}\n{gutter} |\n{number} | {line}\n{gutter} | {mark}\n"
    )


def _place(fault: str, places: dict[str, Place]) -> tuple[Place | None, str]:
    """Where a fault is, and its words."""
    if match := _LINE.match(fault):
        line, column, told = match.groups()
        return Place(int(line), int(column or 1), 1), told
    match = _PATH.match(fault)
    if match is None:
        return None, fault
    path, told = match.groups()
    if not told.startswith(_OF_NAMES) and f"{path}=" in places:
        return places[f"{path}="], fault
    while path and path not in places:
        # A missing key is reported at the mapping that lacks it.
        shorter = max(path.rfind("."), path.rfind("["))
        path = path[:shorter] if shorter > 0 else ""
    return places.get(path), fault
