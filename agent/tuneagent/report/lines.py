"""Lines of a screen: rows whose names are never cut or wrapped, and sentences that are wrapped between words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

# A name may use all of the line except this much; a longer one pushes only its own value aside.
_ROOM_FOR_VALUES = 34
_LEAST = 24
_GAP = "  "


class Row(NamedTuple):
    """One setting: a word about it, its name, its value, and a remark. Each but the name may be empty."""

    word: str
    name: str
    value: str = ""
    remark: str = ""


def counted(number: int | None, word: str) -> str:
    """A number with its word in singular or plural; `?` for one that is not known."""
    return f"{number if number is not None else '?'} {word}{'' if number == 1 else 's'}"


def wrapped(text: str, limit: int, hanging: str = "") -> list[str]:
    """Lines of at most `limit` where that is possible without cutting a word."""
    return textwrap.wrap(
        text, max(limit, 20), subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    ) or [""]


def rows_text(rows: Sequence[Row], limit: int, *, name_size: int | None = None) -> list[str]:
    """Aligned columns; what does not fit on the line of its name goes below it."""
    words = max((len(row.word) for row in rows), default=0)
    indent = " " * (words + len(_GAP)) if words else ""
    names = name_column(rows, limit) if name_size is None else name_size
    values = max((len(row.value) for row in rows if len(row.value) <= _ROOM_FOR_VALUES), default=0)
    lines: list[str] = []
    for row in rows:
        head = f"{row.word.ljust(words)}{_GAP}{row.name}" if words else row.name
        start = len(indent) + max(names, len(row.name))
        parts = [head, *([row.value] if row.value else []), *([row.remark] if row.remark else [])]
        whole = start + sum(len(part) + len(_GAP) for part in parts[1:])
        if row.value and row.remark:
            whole += max(values - len(row.value), 0)
        if whole <= limit:
            columns = [head.ljust(start), *([row.value.ljust(values)] if values else []), row.remark]
            lines.append(_GAP.join(columns).rstrip())
        elif row.value and start + len(_GAP) + len(row.value) <= limit:
            lines.append(f"{head.ljust(start)}{_GAP}{row.value}")
            lines += _below(row.remark, indent, limit)
        else:
            lines += [head, *_below(row.value, indent, limit), *_below(row.remark, indent, limit)]
    return lines


def name_column(rows: Sequence[Row], limit: int) -> int:
    """How wide the column of names is, so that a long one pushes nobody else's value off the line."""
    words = max((len(row.word) for row in rows), default=0)
    room = max(limit - words - _ROOM_FOR_VALUES, _LEAST)
    return max((len(row.name) for row in rows if len(row.name) <= room), default=0)


def _below(text: str, indent: str, limit: int) -> list[str]:
    if not text:
        return []
    return [f"{indent}{_GAP}{line}" for line in wrapped(text, limit - len(indent) - len(_GAP))]
