"""Wakes the loop of a cluster node when its object changes; the loop itself reads."""

from __future__ import annotations

import threading
import time

from tuneagent.node.api_client import ApiFailed, KubeApi
from tuneagent.node.log import log
from tuneagent.node.passes import next_wait_s

WATCH_S = 240


class ObjectWatch:
    """Follows one object in a thread until `stop`. Where the thread ends by itself, `died` is set and so is `stop`:
    an agent that hears nothing must end and be started anew.
    """

    def __init__(self, api: KubeApi, folder: str, name: str, stop: threading.Event) -> None:
        self._api = api
        self._folder = folder
        self._name = name
        self._stop = stop
        self._changed = threading.Event()
        self.died = False

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self.run, name="watch", daemon=True).start()

    def sleep(self, wait_s: float) -> None:
        """Wait until the object changes, `wait_s` seconds pass or the agent stops."""
        deadline = time.monotonic() + wait_s
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if self._changed.wait(min(left, 1.0)):
                self._changed.clear()
                return

    def run(self) -> None:
        """Watch until `stop`."""
        try:
            self._watch()
        except BaseException:
            log.exception("the watch has ended")
        if not self._stop.is_set():
            self.died = True
            self._stop.set()

    def _watch(self) -> None:
        version = "0"
        while not self._stop.is_set():
            try:
                for event in self._api.watch(self._folder, self._name, version, WATCH_S):
                    version = event.object.metadata.resource_version or version
                    if event.type != "BOOKMARK":
                        self._changed.set()
            except (ApiFailed, ValueError) as error:
                version = "0"
                after = error.retry_after_s if isinstance(error, ApiFailed) else None
                self._stop.wait(after or next_wait_s(2.0, 1))
