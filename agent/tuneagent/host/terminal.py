"""The terminal that the output goes to."""

from __future__ import annotations

import os
import sys

from tuneagent.host.processes import environment


def width() -> int:
    """Columns to write in."""
    given = environment("COLUMNS") or ""
    if given.isdigit() and int(given):
        return max(int(given), 40)
    try:
        return max(os.get_terminal_size(sys.__stdout__.fileno()).columns or 100, 40)  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 100


def has_colours() -> bool:
    """Whether stdout is a terminal that knows colours, and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not environment("NO_COLOR") and environment("TERM") != "dumb"
