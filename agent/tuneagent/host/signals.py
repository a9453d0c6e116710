"""SIGINT and SIGTERM as a request to stop after the tunable in hand."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_event(
    *, ignored: tuple[signal.Signals, ...] = (), more: tuple[signal.Signals, ...] = ()
) -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and those in `more` set. The tunable in hand is finished, nothing new begins.

    Signals in `ignored` do nothing meanwhile. The previous handlers are restored at the end.
    """
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    # What whoever started us ignores stays ignored: nohup, and a shell's background jobs.
    wanted = [one for one in (signal.SIGINT, signal.SIGTERM, *more) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    before |= {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def any_stop_event() -> Iterator[threading.Event]:
    """`stop_event` for what must put the host back whatever ends it: also a terminal that is closed."""
    more = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
    with stop_event(more=more) as stop:
        yield stop


@contextlib.contextmanager
def daemon_stop_event() -> Iterator[threading.Event]:
    """`stop_event` for a daemon: SIGHUP is ignored, since the profile is read at each pass."""
    with stop_event(ignored=(signal.SIGHUP,)) as stop:
        yield stop


@contextlib.contextmanager
def time_limit(seconds: float, error: Exception) -> Iterator[None]:
    """Raise `error` where what is inside takes longer. For the main thread, and for code that Python can interrupt:
    among it an expression that tries for ever, which looks for signals as it goes.
    """

    def expired(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise error

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
