"""The terminal that the output goes to, and whether a person uses it."""

from __future__ import annotations

import os
import sys

from tuneagent.host.processes import environment


def is_terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


# Output that does not go to a terminal is searched line by line: it is not wrapped.
ENDLESS = 1_000_000


def width() -> int:
    """Columns to write in; unlimited where the output is not a terminal."""
    if not is_terminal():
        return ENDLESS
    given = environment("COLUMNS") or ""
    if given.isdigit() and int(given):
        return max(int(given), 40)
    try:
        return max(os.get_terminal_size(sys.__stdout__.fileno()).columns or 100, 40)  # type: ignore[union-attr]  # caught below
    except (AttributeError, ValueError, OSError):
        return 100


def can_ask() -> bool:
    """Whether a person can be asked and sees the question."""
    return is_terminal() and sys.stdin is not None and sys.stdin.isatty()


def is_root() -> bool:
    """Whether root runs this."""
    return os.geteuid() == 0


def has_colours() -> bool:
    """Whether to colour: on a terminal that can, unless NO_COLOR is set (https://no-color.org); FORCE_COLOR asks for it
    anywhere (https://force-color.org).
    """
    if environment("NO_COLOR"):
        return False
    return bool(environment("FORCE_COLOR")) or (is_terminal() and environment("TERM") != "dumb")
