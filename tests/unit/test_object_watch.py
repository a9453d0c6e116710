"""What wakes the agent of a cluster node, and what ends it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tuneagent.node import object_watch
from tuneagent.node.api_client import ApiFailed, Watched, WatchedMeta, WatchEvent
from tuneagent.node.object_watch import ObjectWatch


class PlayedWatch:
    """Watches one after the other, each a list of events and how it ends; after the last one the agent stops."""

    def __init__(self, stop: threading.Event, *rounds: tuple[list[WatchEvent], BaseException | None]) -> None:
        self.stop = stop
        self.rounds = list(rounds)
        self.versions: list[str] = []

    def watch(self, folder: str, name: str, version: str, timeout_s: int) -> Iterator[WatchEvent]:
        assert (folder, name, timeout_s) == ("/nodetunings", "n1", object_watch.WATCH_S)
        self.versions.append(version)
        events, end = self.rounds.pop(0)
        yield from events
        if not self.rounds:
            self.stop.set()
        if end is not None:
            raise end


def event(kind: str, version: str) -> WatchEvent:
    return WatchEvent(kind, Watched(WatchedMeta(version)))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(object_watch, "next_wait_s", lambda *_: 0.01)

    def make(*rounds: tuple[list[WatchEvent], BaseException | None]) -> tuple[ObjectWatch, PlayedWatch]:
        stop = threading.Event()
        api = PlayedWatch(stop, *rounds)
        return ObjectWatch(api, "/nodetunings", "n1", stop), api  # type: ignore[arg-type]

    return make


def test_each_watch_goes_on_where_the_last_one_ended(watched: Any) -> None:
    watch, api = watched(
        ([event("ADDED", "5"), event("BOOKMARK", "9")], None), ([event("ERROR", "")], None), ([], None)
    )
    watch.run()
    assert api.versions == ["0", "9", "9"] and not watch.died


@pytest.mark.parametrize("end", [ApiFailed(410, "too old"), ApiFailed(0, "reset", 0.01), ValueError("no JSON")])
def test_after_a_failure_it_starts_from_the_beginning(watched: Any, end: Exception) -> None:
    watch, api = watched(([event("MODIFIED", "7")], end), ([], None))
    watch.run()
    assert api.versions == ["0", "0"] and not watch.died


@pytest.mark.parametrize(
    ("kind", "wakes"), [("ADDED", True), ("MODIFIED", True), ("DELETED", True), ("BOOKMARK", False)]
)
def test_a_change_wakes_and_a_bookmark_does_not(watched: Any, kind: str, wakes: bool) -> None:
    watch, api = watched(([event(kind, "1")], None))
    watch.run()
    api.stop.clear()
    ended = threading.Event()

    def sleep() -> None:
        watch.sleep(30.0)
        ended.set()

    threading.Thread(target=sleep, daemon=True).start()
    assert ended.wait(0.5) is wakes
    api.stop.set()
    assert ended.wait(5)


def test_one_change_wakes_once(watched: Any) -> None:
    watch, api = watched(([event("MODIFIED", "1"), event("MODIFIED", "2")], None))
    watch.run()
    api.stop.clear()
    watch.sleep(30.0)
    watch.sleep(0.0)
    assert not watch._changed.is_set()


def test_a_watch_that_dies_ends_the_agent(watched: Any, caplog: pytest.LogCaptureFixture) -> None:
    watch, api = watched(([], RuntimeError("broken")), ([], None))
    with caplog.at_level(logging.ERROR, logger="tuneagent"):
        watch.run()
    assert watch.died and api.stop.is_set()
