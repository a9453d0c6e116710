"""A command whose output goes on to where ours goes, and is read on its way, line by line."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import IO

from tuneagent.errors import MeasureFailed

_TICK_S = 1.0
_POLL_S = 0.1
_LINE_BYTES = 64 * 1024
# Ctrl-C is not among them: a terminal sends it to the command as well.
_HANDED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def run_streamed(argv: Sequence[str], on_line: Callable[[str], None], on_tick: Callable[[int], None]) -> int:
    """Run a command; `on_line` gets each line of both outputs, `on_tick` its pid once a second. Returns its exit code.

    Signals that would end us go to the command, and we go on until it ends. Neither function may raise: the command's
    output would end with us. Raises MeasureFailed where it cannot be started.
    """
    try:
        child = subprocess.Popen(list(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise MeasureFailed(f"{argv[0]}: {error.strerror}") from None
    with child, _handed_on(child):
        for line in _lines(child, lambda: on_tick(child.pid)):
            on_line(line)
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _handed_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    handlers = {**dict.fromkeys(_HANDED_ON, hand_on), signal.SIGINT: lambda number, frame: None}
    wanted = [one for one in handlers if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handlers[number]) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(child: subprocess.Popen[bytes], on_tick: Callable[[], None]) -> Iterator[str]:
    """Lines until the command has ended, also one that writes elsewhere."""
    rest: dict[int, bytes] = {}
    next_tick = time.monotonic() + _TICK_S
    with selectors.DefaultSelector() as selector:
        for stream, out in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, out)
        while True:
            has_ended = child.poll() is not None
            # Something that it left behind may hold its output open.
            ready = selector.select(0 if has_ended else min(max(next_tick - time.monotonic(), 0), _POLL_S))
            if not ready and not has_ended and not selector.get_map():
                time.sleep(_POLL_S)
            for key, _ in ready:
                piece = os.read(key.fd, 65536)
                if not piece:
                    selector.unregister(key.fileobj)
                _pass_on(key.data, piece)
                # Progress bars end their lines with a carriage return.
                *whole, last = (rest.get(key.fd, b"") + piece).replace(b"\r", b"\n").split(b"\n")
                rest[key.fd] = last[-_LINE_BYTES:] if piece else b""
                yield from (line.decode(errors="replace") for line in [*whole, *([last] if not piece and last else [])])
            if time.monotonic() >= next_tick:
                on_tick()
                next_tick = time.monotonic() + _TICK_S
            if has_ended and not ready:
                yield from (text.decode(errors="replace") for text in rest.values() if text)
                return


def _pass_on(out: IO[str] | None, piece: bytes) -> None:
    """Write through. Where nobody reads our output any more, the command goes on."""
    if out is None:
        return
    with contextlib.suppress(OSError, ValueError):
        out.flush()
        while piece:
            try:
                # A signal may end a write early.
                piece = piece[os.write(out.fileno(), piece) :]
            except BlockingIOError:
                select.select([], [out.fileno()], [])
