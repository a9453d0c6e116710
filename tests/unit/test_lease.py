"""Leader election over an API server in memory: two replicas never lead at once, whatever the server answers."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from memory_api import MemoryApi
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.lease import DURATION_S, RENEW_S, Elector, Seen, may_take

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/tuneagent-operator"


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Replica:
    """One operator's elector, with a clock that is not the other's."""

    def __init__(self, api: MemoryApi, name: str, now: float = 100.0) -> None:
        self.clock = Clock(now)
        given: Any = api
        self.elector = Elector(given, "ns", name, self.clock)

    def turn(self, seconds: float = 0.0) -> bool:
        self.clock.now += seconds
        self.elector._once()
        return self.elector.is_leader


@pytest.mark.parametrize(
    ("seen", "now", "wanted"),
    [
        (Seen("", "1", 0.0), 0.0, True),
        (Seen("me", "1", 0.0), 0.0, True),
        (Seen("other", "1", 0.0), DURATION_S - 0.1, False),
        (Seen("other", "1", 0.0), DURATION_S, False),
        (Seen("other", "1", 0.0), DURATION_S + 0.1, True),
    ],
)
def test_whether_a_lease_may_be_taken(seen: Seen, now: float, wanted: bool) -> None:
    assert may_take(seen, "me", now) is wanted


def test_the_second_replica_takes_over_only_after_the_whole_duration_on_its_own_clock() -> None:
    api = MemoryApi()
    first, second = Replica(api, "a"), Replica(api, "b", now=9_000.0)
    assert first.turn() and not second.turn()
    # The first one renews: however long the second one waits, it is not its turn.
    for _ in range(10):
        assert first.turn(RENEW_S) and not second.turn(RENEW_S)
    assert not second.turn(DURATION_S - 0.1)
    assert second.turn(0.2)
    assert json.loads(api.call("GET", PATH))["spec"]["leaseTransitions"] == 1
    # The first one has long stopped to call itself a leader.
    first.clock.now += DURATION_S
    assert not first.elector.is_leader
    assert not first.turn() and second.turn()


def test_who_cannot_renew_stops_before_the_other_may_begin() -> None:
    api = MemoryApi()
    replica = Replica(api, "a")
    assert replica.turn()

    def away(method: str, path: str) -> None:
        raise ApiFailed(0, "away")

    api.before = away
    with pytest.raises(ApiFailed):
        replica.turn(1.0)
    assert replica.elector.is_leader
    replica.clock.now += DURATION_S - RENEW_S
    assert not replica.elector.is_leader


def test_two_that_take_an_expired_lease_at_once_are_not_both_leaders() -> None:
    api = MemoryApi()
    old = Replica(api, "old")
    old.turn()
    replicas = [Replica(api, "a"), Replica(api, "b")]
    for one in replicas:
        assert not one.turn()
        one.clock.now += DURATION_S + 1
    rival = replicas[1]

    def first_writes_between(method: str, path: str) -> None:
        if method == "PUT":
            api.before = lambda *_: None
            assert rival.turn()

    api.before = first_writes_between
    assert not replicas[0].turn() and rival.elector.is_leader


def test_a_lease_that_is_given_up_is_taken_at_once() -> None:
    api = MemoryApi()
    first, second = Replica(api, "a"), Replica(api, "b")
    first.turn()
    assert not second.turn()
    first.elector._release()
    assert not first.elector.is_leader and second.turn()


@pytest.mark.parametrize("spec", [None, {}, {"holderIdentity": None}, {"holderIdentity": "", "leaseTransitions": None}])
def test_a_lease_made_by_hand_is_taken(spec: dict[str, Any] | None) -> None:
    api = MemoryApi()
    api.put(PATH, {"metadata": {"name": "tuneagent-operator", "labels": {"kept": "yes"}}, "spec": spec})
    assert Replica(api, "a").turn()
    assert json.loads(api.call("GET", PATH))["metadata"]["labels"] == {"kept": "yes"}


def test_a_lease_that_makes_no_sense_does_not_end_the_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    api = MemoryApi()
    api.put(PATH, {"metadata": {"name": "tuneagent-operator"}, "spec": ["nonsense"]})
    replica, stop = Replica(api, "a"), threading.Event()
    turns: list[int] = []

    def counted(_: float) -> bool:
        turns.append(1)
        if len(turns) == 3:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", counted)
    replica.elector.run(stop)
    assert len(turns) == 3 and not replica.elector.is_leader
