"""Copies of cluster objects: paged lists, watches that are cut, 410, objects that cannot be read, kinds that are gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tuneagent.contracts.kubernetes import Node
from tuneoperator.kube import store as store_module
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.store import Store


def node(name: str, version: int = 1, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version), **meta}}


class Script:
    """An API server that answers lists and watches as it is told, one after the other, and then stops the store."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.stop = threading.Event()

    def call(self, method: str, path: str, *_: Any) -> bytes:
        self.asked.append(path)
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()

    def watch(self, path: str, query: dict[str, str], timeout_s: int) -> Iterator[bytes]:
        self.asked.append(f"watch {query['resourceVersion']}")
        if not self.watches:
            self.stop.set()
            return
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield json.dumps(event).encode()


def page(items: list[dict[str, Any]], version: int = 10, more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": items}


def event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": body}


def run(script: Script, monkeypatch: pytest.MonkeyPatch) -> tuple[Store[Node], list[bool]]:
    told: list[bool] = []
    given: Any = script
    store: Store[Node] = Store(given, "/api/v1/nodes", Node, lambda: told.append(store.synced))
    monkeypatch.setattr(script.stop, "wait", lambda _=None: script.stop.is_set())
    store.run(script.stop)
    return store, told


def names(store: Store[Node]) -> list[str]:
    return [one.metadata.name for one in store.all()]


def test_pages_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([page([node("b"), node("c")], more="next"), page([node("a")])], [])
    store, told = run(script, monkeypatch)
    assert names(store) == ["a", "b", "c"] and store.synced and told == [True]
    assert "continue=next" in script.asked[1] and script.asked[2] == "watch 10"


def test_events_and_bookmarks_move_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([page([node("a"), node("b")])], [
        [event("ADDED", node("c", 11)), event("DELETED", node("a", 12)), event("BOOKMARK", node("", 20))],
        [event("MODIFIED", node("b", 21, labels={"x": "y"}))],
    ])  # fmt: skip
    store, _ = run(script, monkeypatch)
    assert names(store) == ["b", "c"] and store.get("b").metadata.labels == {"x": "y"}  # type: ignore[union-attr]
    assert [one for one in script.asked if one.startswith("watch")] == ["watch 10", "watch 20", "watch 21"]


@pytest.mark.parametrize("cut", [ApiFailed(0, "reset"), ApiFailed(410, "gone"), "status", "garbage"])
def test_after_a_cut_everything_is_listed_anew_and_nothing_is_synced_until_then(
    cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    end: Any = {
        "status": event("ERROR", {"code": 410, "message": "too old resource version"}),
        "garbage": {"type": 7},
    }.get(cut, cut) if isinstance(cut, str) else cut  # fmt: skip
    script = Script([page([node("a")]), page([node("b")], version=30)], [[event("ADDED", node("c", 11)), end]])
    store, told = run(script, monkeypatch)
    # What went while nobody watched is gone; between the two lists nothing was believed.
    assert names(store) == ["b"] and told == [True, True, False, True]
    assert script.asked[-1] == "watch 30"


def test_a_kind_that_is_not_served_is_told_from_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([ApiFailed(404, "no such kind"), ApiFailed(403, "forbidden"), page([])], [])
    told: list[tuple[bool, bool]] = []
    given: Any = script
    store: Store[Node] = Store(given, "/x", Node, lambda: told.append((store.synced, store.is_served)))
    monkeypatch.setattr(script.stop, "wait", lambda _=None: script.stop.is_set())
    store.run(script.stop)
    assert told == [(False, False), (False, True), (True, True)]


def test_an_object_that_cannot_be_read_keeps_its_last_state_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"metadata": {"name": "a", "resourceVersion": "11", "labels": 7}}
    script = Script([page([node("a"), node("b")])], [[event("MODIFIED", broken), event("ADDED", node("c", 12))]])
    store, _ = run(script, monkeypatch)
    assert names(store) == ["a", "b", "c"] and list(store.faults()) == ["a"]
    assert store.get("a").metadata.resource_version == "1"  # type: ignore[union-attr]


def test_an_answer_to_a_write_is_taken_in_unless_the_watch_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([page([node("a", 5)])], [])
    store, _ = run(script, monkeypatch)
    store.put(json.dumps(node("a", 7, labels={"from": "write"})).encode())
    store.put(json.dumps(node("a", 6, labels={"from": "old"})).encode())
    assert store.get("a").metadata.labels == {"from": "write"}  # type: ignore[union-attr]
    store.drop("a")
    assert store.get("a") is None and store.all() == []


def test_pages_are_asked_for_in_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([page([])], [])
    run(script, monkeypatch)
    assert f"limit={store_module.PAGE}" in script.asked[0]
