"""An apply that waits to be confirmed, as it is kept in the state folder."""

from __future__ import annotations

import msgspec


class Pending(msgspec.Struct, frozen=True):
    """An apply that goes back by itself unless it is confirmed before `deadline` (seconds since 1970)."""

    plan: str
    deadline: float
    keys: tuple[tuple[str, str], ...]
