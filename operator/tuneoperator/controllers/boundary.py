"""One boundary around each object: an error is recorded for that object only, which is then skipped for a while."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from tuneoperator.controllers.workqueue import Backoff
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.cluster import NotLeader

log = logging.getLogger("tuneoperator")


class Boundaries:
    """By key, such as `node/NAME`: how long the object is skipped, and why the API server refuses its writes."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self.refused: dict[str, str] = {}

    def left(self, key: str) -> float:
        """Seconds for which the object is still skipped."""
        return self._backoff.left(key)

    def attempt(self, key: str, act: Callable[..., object], *arguments: object) -> None:
        """Call `act` inside the object's boundary, unless the object is still skipped."""
        if not self.left(key):
            with self.around(key):
                act(*arguments)

    @contextlib.contextmanager
    def around(self, key: str) -> Iterator[None]:
        """Confine any error raised inside to this object; only NotLeader is passed on."""
        try:
            yield
        except NotLeader:
            raise
        except Exception as error:
            after_s = self._backoff.failed(key)
            # A lost race or an unreachable server is not a refusal.
            is_race = isinstance(error, ApiFailed) and error.status in (0, 409)
            if not is_race:
                self.refused[key] = str(error) or type(error).__name__
            fields = {"object": key, "error": f"{type(error).__name__}: {error}", "after_s": after_s}
            level = logging.INFO if is_race else logging.WARNING
            log.log(level, "retrying later", extra={"fields": fields}, exc_info=not isinstance(error, ApiFailed))
        else:
            self._backoff.succeeded(key)
            self.refused.pop(key, None)
