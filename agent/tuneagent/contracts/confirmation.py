"""An apply that waits to be confirmed, and one that was not: notes in the state folder."""

from __future__ import annotations

import msgspec


class Pending(msgspec.Struct, frozen=True):
    """An apply that is undone automatically unless it is confirmed before `deadline` (seconds since 1970)."""

    plan: str
    deadline: float
    keys: tuple[tuple[str, str], ...]


class Reverted(msgspec.Struct, frozen=True):
    """An apply that was not confirmed in time, and was undone at `time` (seconds since 1970)."""

    plan: str
    time: float
    settings: int
