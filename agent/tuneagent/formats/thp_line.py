"""`thp_anon=` of the kernel line: when the kernel uses huge pages of each size (admin-guide/mm/transhuge.rst)."""

from __future__ import annotations

from collections.abc import Iterable

from tuneagent.formats.hugetlb_line import size_kib

STATES = ("always", "inherit", "madvise", "never")


def state_of(texts: Iterable[str], kib: int) -> str | None:
    """The last state that these values give a size in KiB; None where they do not name it.

    A value is `SIZE,SIZE-SIZE:STATE;…`. One with a fault anywhere is ignored as a whole.
    """
    found = None
    for text in texts:
        states = _states(text)
        for low, high, state in states or ():
            if low <= kib <= high:
                found = state
    return found


def _states(text: str) -> list[tuple[int, int, str]] | None:
    found = []
    for part in text.split(";"):
        sizes, colon, state = part.partition(":")
        if not colon or state not in STATES:
            return None
        for size in sizes.split(","):
            low, _, high = size.partition("-")
            ends = (size_kib(low), size_kib(high or low))
            if ends[0] is None or ends[1] is None:
                return None
            found.append((ends[0], ends[1], state))
    return found
