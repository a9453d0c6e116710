"""/proc/meminfo and that of a NUMA node: `MemTotal:  16384 kB`, with `Node 0` before it in the latter."""

from __future__ import annotations


def total_kib(text: str) -> int | None:
    """Memory in KiB; None where the text does not say."""
    for line in text.splitlines():
        _, found, rest = line.partition("MemTotal:")
        number, _, unit = rest.strip().partition(" ")
        if found and unit.strip() == "kB" and number.isdigit():
            return int(number)
    return None
