"""The terminal that the output goes to."""

from __future__ import annotations

import shutil
import sys

from tuneagent.host.processes import environment


def width() -> int:
    """Columns to write in."""
    return max(shutil.get_terminal_size((100, 24)).columns, 40)


def has_colours() -> bool:
    """Whether stdout is a terminal that knows colours, and nobody asked for none (https://no-color.org)."""
    return sys.stdout.isatty() and not environment("NO_COLOR") and environment("TERM") != "dumb"
