"""This process: a stream for output that nobody can take any more, and its end."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, NoReturn


def discarding() -> IO[str]:
    """A stream that takes everything and keeps nothing."""
    return open(os.devnull, "w")


def end(code: int) -> NoReturn:
    """End at once: taking the interpreter apart frees only what the kernel frees anyway, in a tenth of an audit's time.

    Nothing of ours waits for the interpreter's end: files, locks and children are closed where they were opened.
    """
    for stream in (sys.stdout, sys.stderr):
        # One may be closed, or None where the caller closed it before the start.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
