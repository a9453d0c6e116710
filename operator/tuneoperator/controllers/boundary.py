"""One boundary around each object: what goes wrong with it is noted for it, and it is left alone for a while."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from tuneoperator.controllers.workqueue import Backoff
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.cluster import NotLeader

log = logging.getLogger("tuneoperator")


class Boundaries:
    """By key, such as `node/NAME`: how long it is left alone, and why the API server refuses its writes."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self.refused: dict[str, str] = {}

    def left(self, key: str) -> float:
        """Seconds for which the object is left alone still."""
        return self._backoff.left(key)

    def attempt(self, key: str, act: Callable[..., object], *arguments: object) -> None:
        """Call `act` inside the object's boundary, unless the object is left alone still."""
        if not self.left(key):
            with self.around(key):
                act(*arguments)

    @contextlib.contextmanager
    def around(self, key: str) -> Iterator[None]:
        """Whatever is raised inside is this object's trouble and nobody else's; but who does not lead stops."""
        try:
            yield
        except NotLeader:
            raise
        except Exception as error:
            after_s = self._backoff.failed(key)
            # A lost race and a server that is away are no refusal.
            is_race = isinstance(error, ApiFailed) and error.status in (0, 409)
            if not is_race:
                self.refused[key] = str(error) or type(error).__name__
            fields = {"object": key, "error": f"{type(error).__name__}: {error}", "after_s": after_s}
            level = logging.INFO if is_race else logging.WARNING
            log.log(level, "again later", extra={"fields": fields}, exc_info=not isinstance(error, ApiFailed))
        else:
            self._backoff.succeeded(key)
            self.refused.pop(key, None)
