"""Huge pages that a kernel line reserves (admin-guide/kernel-parameters.rst; mm/hugetlb.c, hugepages_setup)."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from tuneagent.formats.kernel_line import arguments
from tuneagent.formats.lazy_regex import lazy_regex

_SIZE = lazy_regex(r"(\d{1,9})([KMGkmg]?)\Z")
_KIB = {"K": 1, "M": 1 << 10, "G": 1 << 20}
# Pages of one size: a number for all nodes together, or a number for each node that is named.
Count = int | dict[int, int]


def size_kib(text: str) -> int | None:
    """A size such as `2M` or `1G`; None for what is none."""
    match = _SIZE.match(text)
    if match is None:
        return None
    return int(match.group(1)) * _KIB[match.group(2).upper()] if match.group(2) else int(match.group(1)) // 1024


def reserved(line: str, default_kib: int, sizes: Collection[int]) -> dict[int, Count]:
    """Pages of each size in KiB. `hugepages=` belongs to the size before it, the first one without any to the default.

    A size that the kernel does not have, and one that is given twice, make it ignore the next count.
    """
    found: dict[int, Count] = {}
    known: set[int] = set()
    # The size that a count belongs to, and whether the last size that was given is one.
    current, is_valid, is_default_named = None, True, False
    first: Count | None = None
    for name, text in _for_the_kernel(line):
        if name == "hugepages":
            count = count_of(text or "")
            if is_valid and count is not None:
                if current is None:
                    first = count if first is None else first
                else:
                    found.setdefault(current, count)
            is_valid = True
        elif name in ("hugepagesz", "default_hugepagesz"):
            kib, is_default = size_kib(text or ""), name == "default_hugepagesz"
            may_repeat = is_default_named and kib == default_kib and kib not in found
            is_twice = is_default_named if is_default else kib in known and not may_repeat
            is_valid = kib is not None and kib in sizes and not is_twice
            if kib is None or not is_valid:
                continue
            known.add(kib)
            current = kib
            if is_default:
                is_default_named = True
                if first is not None:
                    found[kib] = first
    if first is not None:
        found.setdefault(default_kib, first)
    return found


def default_size(line: str) -> int | None:
    """The size that `default_hugepagesz=` gives; None without one."""
    given = [size_kib(text or "") for name, text in _for_the_kernel(line) if name == "default_hugepagesz"]
    return given[0] if given else None


def _for_the_kernel(line: str) -> list[tuple[str, str | None]]:
    """Arguments before `--`: those after it belong to init."""
    return list(itertools.takewhile(lambda one: one != ("--", None), arguments(line)))


def count_of(text: str) -> Count | None:
    """A number of pages, or one for each node that is named (`0:3,1:4`); None for what is neither."""
    if text.isdigit():
        return int(text)
    pairs = [part.partition(":") for part in text.split(",")]
    if not all(node.isdigit() and count.isdigit() for node, _, count in pairs):
        return None
    return {int(node): int(count) for node, _, count in pairs}
