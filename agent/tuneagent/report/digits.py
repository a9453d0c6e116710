"""Numbers as they are shown: few digits, and no exponent where people write none."""

from __future__ import annotations

_DIGITS = 4


def gib(size_bytes: int) -> str:
    """A size of memory in whole GiB."""
    return f"{size_bytes / 2**30:.0f} GiB"


def short(value: float | None) -> str:
    """Four digits; `?` for a number that is not known."""
    if value is None:
        return "?"
    return f"{value:.0f}" if 10 ** (_DIGITS - 1) <= abs(value) < 1e15 else f"{value:.{_DIGITS}g}"
