"""Boot loader entries as systemd-boot takes them: what each says, in which order they stand, and which one is taken.

Sources: UAPI Group Specifications, Boot Loader Specification and Version Format Specification; systemd-boot(7) and
loader.conf(5). The host tier compares with `bootctl list`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tuneagent.formats.globs import matches
from tuneagent.formats.lazy_regex import lazy_regex

# Tries that are left, and those that are done, between name and suffix.
_TRIES = lazy_regex(r"(.+)\+(\d{1,9})(?:-(\d{1,9}))?(\.conf|\.efi)\Z")
# Longer versions are cut: a file name has at most 255 letters.
_VERSION_LIMIT = 1024
# Letters of a version that count.
_NO_VERSION = lazy_regex(r"[^A-Za-z0-9~^.-]+")


class Entry(NamedTuple):
    """One way to boot. `id` is its file's name without tries; `tries_left` is None where they are not counted."""

    id: str
    options: str
    version: str = ""
    sort_key: str = ""
    machine_id: str = ""
    tries_left: int | None = None
    tries_done: int = 0


def named(file: str) -> tuple[str, int | None, int]:
    """The id of a file, and the tries that its name counts."""
    match = _TRIES.match(file)
    if match is None:
        return file, None, 0
    return match.group(1) + match.group(4), int(match.group(2)), int(match.group(3) or 0)


def keys_of(text: str) -> dict[str, list[str]]:
    """A key and its value on each line of an entry; quotes around a whole value are taken off."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, *rest = line.split(maxsplit=1)[:2] or [""]
        value = rest[0].strip() if rest else ""
        if len(value) > 1 and value[0] == value[-1] == '"' and '"' not in value[1:-1]:
            value = value[1:-1]
        if key and not key.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def entry_of_text(file: str, text: str) -> Entry:
    """A file of `loader/entries`. Options of several lines add up."""
    found = keys_of(text)
    last = {key: values[-1] for key, values in found.items()}
    name, left, done = named(file)
    options = " ".join(value for value in found.get("options", []) if value)
    version, sort_key, machine_id = (last.get(key, "") for key in ("version", "sort-key", "machine-id"))
    return Entry(name, options, version, sort_key, machine_id, left, done)


def entry_of_image(file: str, cmdline: str, release: Mapping[str, str]) -> Entry:
    """A unified kernel image, with the os-release that it holds."""
    versions = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
    version = next((release[key] for key in versions if release.get(key)), "")
    name, left, done = named(file)
    sort_key = release.get("IMAGE_ID") or release.get("ID") or ""
    return Entry(name, cmdline, version, sort_key, "", left, done)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """As the menu shows them: those without tries left last, then newest first."""
    return sorted(entries, key=functools.cmp_to_key(_compare))


def taken(entries: Iterable[Entry], patterns: Iterable[str]) -> Entry | None:
    """The first one that the first matching pattern covers, or the first of all; None where there is none."""
    known = in_order(entries)
    for pattern in patterns:
        found = next((one for one in known if matches(one.id.lower(), pattern.lower())), None)
        if found is not None:
            return found
    return next(iter(known), None)


def _compare(one: Entry, other: Entry) -> int:
    """Above 0 where `one` stands after the other."""
    has_keys = bool(one.sort_key and other.sort_key)
    orders = (
        (one.tries_left == 0) - (other.tries_left == 0),
        (not one.sort_key) - (not other.sort_key),
        _order(one.sort_key, other.sort_key) if has_keys else 0,
        _order(one.machine_id, other.machine_id) if has_keys else 0,
        compare_versions(other.version, one.version) if has_keys else 0,
        compare_versions(other.id, one.id),
    )
    found = next((order for order in orders if order), 0)
    if found or one.tries_left is None or other.tries_left is None:
        return found
    return (other.tries_left - one.tries_left) or (one.tries_done - other.tries_done)


def _order(one: str, other: str) -> int:
    return (one > other) - (one < other)


def compare_versions(one: str, other: str) -> int:
    """Below 0 where `one` is the older version (Version Format Specification)."""
    mine, theirs = (_NO_VERSION.sub("\0", text[:_VERSION_LIMIT]) for text in (one, other))
    while True:
        mine, theirs = mine.lstrip("\0"), theirs.lstrip("\0")
        for mark in "~-^.":
            if mark == "-" and not (mine and theirs):
                # What is longer is newer, unless it goes on with a tilde.
                return (mine[:1] > theirs[:1]) - (mine[:1] < theirs[:1])
            has = mine.startswith(mark), theirs.startswith(mark)
            if has[0] != has[1]:
                return -1 if has[0] else 1
            mine, theirs = (mine[1:], theirs[1:]) if has[0] else (mine, theirs)
        is_number = mine[:1].isdigit() or theirs[:1].isdigit()
        form = r"\d*" if is_number else r"[A-Za-z]*"
        parts = [re.match(form, text).group(0) for text in (mine, theirs)]  # type: ignore[union-attr]  # both match all
        order = _compare_numbers(*parts) if is_number else _order(*parts)
        if order:
            return order
        mine, theirs = mine[len(parts[0]) :], theirs[len(parts[1]) :]


def _compare_numbers(one: str, other: str) -> int:
    """As long as one likes: what is longer without leading zeros is larger."""
    if bool(one) != bool(other):
        return 1 if one else -1
    mine, theirs = one.lstrip("0"), other.lstrip("0")
    return (len(mine) - len(theirs)) or _order(mine, theirs)
