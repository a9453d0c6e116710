"""A user's command as an experiment runs it: with a time limit, its output kept, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable

import msgspec

from tuneagent.errors import MeasureFailed

# The last part of the output is kept: programs print their result at the end.
OUTPUT_BYTES = 1024 * 1024
_POLL_S = 0.1
# What forks while it is ended is found in the next round.
_ROUNDS = 10
_SET_CHILD_SUBREAPER = 36


class Measured(msgspec.Struct, frozen=True):
    """How a command ended, and what it printed on both of its outputs."""

    code: int
    output: str
    wall_s: float


def run_measured(command: str, limit_s: float, stop: Callable[[], bool]) -> Measured:
    """Run a command of the shell. Raises MeasureFailed where it takes too long; KeyboardInterrupt once `stop` says so.

    Whatever it has started is ended with it, also what has left its session.
    """
    _adopt_orphans()
    began = time.monotonic()
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as child:
        try:
            output = _output_of(child, began + limit_s, stop)
            code = child.wait()
            wall_s = time.monotonic() - began
        except TimeoutError:
            raise MeasureFailed(f"the command was still running after {limit_s:g} s") from None
        finally:
            _end(child)
    return Measured(code, output.decode(errors="replace"), wall_s)


def _output_of(child: subprocess.Popen[bytes], end: float, stop: Callable[[], bool]) -> bytes:
    """What is printed until the command ends. A child of its own that still holds the output does not hold us."""
    kept, stream = b"", child.stdout
    if stream is None:
        return kept
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if stop():
                raise KeyboardInterrupt
            if time.monotonic() > end:
                raise TimeoutError
            has_ended = child.poll() is not None
            ready = selector.select(0 if has_ended else _POLL_S)
            piece = os.read(stream.fileno(), 65536) if ready else b""
            kept = (kept + piece)[-OUTPUT_BYTES:]
            if (ready and not piece) or (has_ended and not ready):
                return kept


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the command's session, and every process that it left to us."""
    # Loaded only here: an audit starts without it.
    import psutil

    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for _ in range(_ROUNDS):
        left = [one for one in psutil.Process().children(recursive=True) if one.pid != child.pid]
        if not left:
            return
        for one in left:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(left, timeout=1)


def _adopt_orphans() -> None:
    """Become the parent of what a child of ours leaves behind, so that it can be found (prctl(2))."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
