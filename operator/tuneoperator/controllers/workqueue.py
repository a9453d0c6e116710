"""A queue of names without duplicates, with delays, and with back-off after failures. One worker takes from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 60.0


class Backoff:
    """How long each name waits after a failure: twice as long each time, at most a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def failed(self, name: str) -> float:
        """Note a failure; returns the seconds to wait."""
        count = self._failures.get(name, 0)
        self._failures[name] = count + 1
        delay = min(FIRST_BACKOFF_S * 2.0 ** min(count, 20), LAST_BACKOFF_S)
        self._until[name] = self._clock() + delay
        return delay

    def succeeded(self, name: str) -> None:
        """Forget earlier failures."""
        self._failures.pop(name, None)
        self._until.pop(name, None)

    def left(self, name: str) -> float:
        """Seconds that the name still has to wait; 0 for none."""
        return max(self._until.get(name, 0.0) - self._clock(), 0.0)


class WorkQueue:
    """Names to process. A name that is already waiting is not added twice, and a back-off is never shortened."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._ready: dict[str, None] = {}
        self._later: dict[str, float] = {}
        self._backoff = Backoff(clock)
        self._closed = False

    def add(self, name: str, after_s: float = 0.0) -> None:
        """Process `name` now, or in `after_s` seconds, but never before its back-off is over."""
        with self._changed:
            after_s = max(after_s, self._backoff.left(name))
            if after_s <= 0:
                self._ready[name] = None
            else:
                due = self._clock() + after_s
                self._later[name] = min(due, self._later.get(name, due))
            self._changed.notify()

    def failed(self, name: str) -> float:
        """Retry with exponential back-off; returns the seconds to wait."""
        with self._changed:
            delay = self._backoff.failed(name)
            # What was added in the meantime waits as well.
            self._ready.pop(name, None)
            self._later.pop(name, None)
        self.add(name, delay)
        return delay

    def succeeded(self, name: str) -> None:
        """Forget earlier failures."""
        with self._changed:
            self._backoff.succeeded(name)

    def take(self, timeout_s: float) -> str | None:
        """The next name; None after `timeout_s`, or when closed."""
        deadline = self._clock() + timeout_s
        with self._changed:
            while not self._closed:
                now = self._clock()
                for name in [name for name, due in self._later.items() if due <= now]:
                    del self._later[name]
                    self._ready[name] = None
                if self._ready:
                    name = next(iter(self._ready))
                    del self._ready[name]
                    return name
                if now >= deadline:
                    return None
                until = min(deadline, *self._later.values()) if self._later else deadline
                self._changed.wait(max(until - now, 0.01))
            return None

    def close(self) -> None:
        """Close the queue and wake the worker."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
