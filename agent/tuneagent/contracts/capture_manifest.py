"""What a capture says of itself: manifest.json in its archive."""

from __future__ import annotations

import msgspec

from tuneagent import __version__

FORMAT = "tuneagent.dev/capture/v1"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a capture says of itself."""

    format: str = FORMAT
    tool: str = __version__
    # When it was taken, in seconds since 1970; None in captures of earlier versions.
    taken: float | None = None
    identifiers: bool
    namespaces: dict[str, bool | None]
    unreadable: dict[str, str]
    absent: tuple[str, ...]
    commands: dict[str, tuple[int, str, str]]
