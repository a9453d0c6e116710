"""The operator over an API server in memory: outcomes that a review found wrong, each as its sequence of events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from memory_api import GROUP, LEDGER, POLICY, World
from tuneagent.contracts.node_tuning import NodeTuning
from tuneoperator.kube.client import ApiFailed


def draining() -> World:
    """A node that is cordoned and waits for its pod to end."""
    world = World("n1", drain={"mode": "cordonAndWait"})
    world.pod("n1")
    world.step(2)
    world.proposes("n1")
    world.step(4)
    assert world.phase("n1") == "Draining" and world.holds("n1") == (False, True, True)
    return world


def test_a_change_that_reboots_goes_its_whole_way() -> None:
    world = World("n1")
    world.granted("n1")
    world.takes("n1")
    world.step(3)
    assert world.holds("n1") == (True, True, True)
    world.node("n1")["status"]["nodeInfo"]["bootID"] = "b1"
    world.says("n1", bootID="b1", proposal=None, taken=None)
    world.step(6)
    assert world.phase("n1") == "Done" and world.holds("n1") == (False, False, False)
    assert world.condition("p")["status"] == "True"


def test_a_grant_taken_while_the_operator_decides_stays() -> None:
    world = World("n1")
    world.granted("n1")
    world.now += 2000

    def agent_takes(method: str, path: str) -> None:
        if method == "PATCH" and path.endswith("nodetunings/n1"):
            world.api.before = lambda method, path: None
            world.takes("n1")
            # The watch brings it before the write: the copy is newer than what was decided on.
            world.cluster.tunings.put(str.encode(__import__("json").dumps(world.tuning("n1"))))

    world.api.before = agent_takes
    world.step()
    assert world.holds("n1") == (True, True, True)
    world.step(3)
    # Now it is seen: named as failed in time, and still nothing is taken from it.
    assert world.holds("n1") == (True, True, True)


def test_a_typo_sends_no_node_to_its_baseline() -> None:
    world = World("n1")
    world.step(2)
    world.says("n1")
    world.step(3)
    before = world.tuning("n1")["spec"]["revision"]
    world.profile("p", 11)

    def dies(method: str, path: str) -> None:
        if method == "PATCH" and path.endswith("nodetunings/n1"):
            raise ApiFailed(500, "gone in the middle")

    world.api.before = dies
    world.step()
    assert world.phase("n1") == "Applying" and world.tuning("n1")["spec"]["revision"] == before
    world.api.before = lambda method, path: None
    world.profile("p", tune={"sysctI": {}})
    for _ in range(5):
        world.start()
        world.step(3)
        spec = world.tuning("n1")["spec"]
        assert spec["desired"] == "Profile" and spec["revision"].startswith("p-"), spec


@pytest.mark.parametrize("moved", ["digest", "class"])
def test_a_plan_that_moved_is_drained_for_again(moved: str) -> None:
    world = World("n1")
    world.pod("n1")
    world.granted("n1", "gpu")
    # A pod without a GPU stands in the way of a reboot.
    world.proposes("n1", "d2", "reboot" if moved == "class" else "gpu")
    world.step(4)
    if moved == "class":
        assert not world.tuning("n1")["spec"].get("grant") and world.phase("n1") in ("Pending", "Draining")
    else:
        assert world.tuning("n1")["spec"]["grant"]["digest"] == "d2"


def test_a_grant_that_was_not_taken_goes_back_when_its_node_is_uncordoned() -> None:
    world = World("n1")
    world.granted("n1")
    world.api.patch("/api/v1/nodes/n1", {"spec": {"unschedulable": None}})
    path = world.pod("n1")
    world.step(3)
    assert not world.tuning("n1")["spec"].get("grant")
    del world.api.objects[path]
    world.step(5)
    assert world.holds("n1") == (True, True, True) and world.node("n1")["spec"]["unschedulable"]


def test_what_was_taken_in_an_earlier_boot_holds_nothing() -> None:
    world = World("n1", "n2")
    world.granted("n1")
    world.takes("n1")
    world.node("n1")["status"]["nodeInfo"]["bootID"] = "b1"
    world.now += 2000
    world.step(6)
    assert world.phase("n1") == "Failed" and world.holds("n1") == (False, False, False)
    writes = len(world.api.writes)
    world.step(10)
    assert len(world.api.writes) == writes, world.api.writes[writes:]


def test_a_failure_half_written_is_a_failure() -> None:
    world = World("n1")
    world.step(2)
    world.says("n1")
    world.step(3)
    first = world.tuning("n1")["spec"]["revision"]
    world.profile("p", 11, rollout={**world.rollout, "soakSeconds": 100})
    world.step(2)
    world.says("n1")
    world.step(1)
    assert world.phase("n1") == "Soaking"
    world.says("n1", error="EINVAL")
    refusals = iter([False, True])

    def second_write_fails(method: str, path: str) -> None:
        if method == "PATCH" and "nodetunings/n1" in path and next(refusals, False):
            raise ApiFailed(409, "moved")

    world.api.before = second_write_fails
    world.step()
    world.api.before = lambda method, path: None
    world.says("n1")
    world.now += 500
    world.step(6)
    assert world.phase("n1") == "Failed" and world.tuning("n1")["spec"]["revision"] == first
    assert world.condition("p")["reason"] == "FailureThreshold"


def test_rolled_out_needs_every_governed_node_as_wanted() -> None:
    world = World("n1", "n2")

    def no_second(method: str, path: str) -> None:
        if method == "POST" and path.endswith("/nodetunings") and f"{GROUP}/nodetunings/n1" in world.api.objects:
            raise ApiFailed(403, "someone says no")

    world.api.before = no_second
    world.step(2)
    world.says("n1")
    world.step(4)
    assert world.condition("p")["reason"] == "NodesMissing" and "n2" in world.condition("p")["message"]
    assert "n2: " in world.condition("p", "WritesRefused")["message"]
    world.api.before = lambda method, path: None
    world.reconciler.boundaries = type(world.reconciler.boundaries)()
    world.step(2)
    world.says("n2")
    world.step(4)
    assert world.condition("p")["status"] == "True"
    for told in ({"error": "EINVAL"}, {"notAsWanted": 7}, {"revision": "p-old"}, {"refusal": "no"}):
        world.says("n1", **told)
        world.step(2)
        assert world.condition("p")["reason"] == "NodesNotAsWanted" and "n1" in world.condition("p")["message"]
        world.says("n1", refusal="")
    world.proposes("n1")
    world.step(2)
    assert "needs a reboot change" in world.condition("p")["message"]


def test_the_loser_of_a_tie_is_not_rolled_out() -> None:
    world = World("n1", "n2")
    del world.api.objects[f"{GROUP}/tuningprofiles/p"]
    world.node("n2")["metadata"]["labels"]["only"] = "zz"
    world.profile("q", 10, nodeSelector={"matchExpressions": [{"key": "only", "operator": "DoesNotExist"}]})
    world.profile("zz", 11)
    world.step(2)
    for name in world.names:
        world.says(name)
    world.step(5)
    assert world.tuning("n1")["spec"]["profile"] == "q" and world.condition("q")["status"] == "True"
    assert (world.condition("zz")["status"], world.condition("zz")["reason"]) == ("False", "Tie")


@pytest.mark.parametrize("why", ["typo", "pause", "policy"])
def test_a_node_is_not_kept_cordoned_for_what_does_not_begin(why: str) -> None:
    world = draining()
    if why == "typo":
        world.profile("p", tune={"sysctI": {}})
    else:
        spec = {"pause": "rollouts"} if why == "pause" else {"maxUnavailable": "lots"}
        world.api.put(POLICY, {"metadata": {"name": "default"}, "spec": spec})
    world.step(5)
    assert world.phase("n1") == "Pending" and world.holds("n1") == (False, False, False)


@pytest.mark.parametrize("kind", ["tuningpolicies", "tuningprofiles", "nodetunings"])
def test_whichever_kind_is_deleted_nodes_are_given_back(kind: str) -> None:
    world = draining()
    world.api.not_served.add(kind)
    for path in [path for path in world.api.objects if f"/{kind}/" in path]:
        if kind == "nodetunings":
            world.sync()
        world.api.objects.pop(path)
    world.step(4)
    if kind == "nodetunings":
        # What its agent was doing is not known: in time.
        assert "n1" in world.places()
        world.now += 2000
        world.step(4)
    cordoned = "tuneagent.dev/cordoned" in world.node("n1")["metadata"].get("annotations", {})
    # Without a policy the defaults hold, and the node goes on waiting for its pod.
    assert cordoned == (kind == "tuningpolicies") and ("n1" in world.places()) == cordoned
    if kind == "tuningprofiles":
        assert world.tuning("n1")["spec"]["desired"] == "Profile"


def test_an_answer_to_an_old_write_brings_no_object_back() -> None:
    world = World("n1")
    world.sync()
    store = world.cluster.ledgers
    api: Any = world.api
    gone = {"metadata": {"name": "tuneagent-ledger", "resourceVersion": "900"}, "data": {}}
    late = {**gone, "metadata": {**gone["metadata"], "resourceVersion": "899"}}

    api.watch = lambda *_: iter([json.dumps({"type": "DELETED", "object": gone}).encode()])
    store._watch("1")
    store.put(json.dumps(late).encode())
    assert store.get("tuneagent-ledger") is None
    store.put(json.dumps({**gone, "metadata": {**gone["metadata"], "resourceVersion": "901"}}).encode())
    assert store.get("tuneagent-ledger") is not None


def test_an_object_that_is_not_there_is_forgotten() -> None:
    world = World("n1")
    world.granted("n1")
    world.sync()
    del world.api.objects[LEDGER]
    with pytest.raises(ApiFailed):
        world.cluster.write_places({})
    world.cluster.write_places({})
    assert world.places() == set()


def test_a_document_of_a_thousand_levels_ends_no_thread() -> None:
    import sys
    import threading

    from tuneoperator.__main__ import RECURSION_LIMIT, STACK_BYTES

    deep: Any = 1
    for _ in range(5000):
        deep = {"a": deep}
    before = sys.getrecursionlimit(), threading.stack_size(STACK_BYTES)
    sys.setrecursionlimit(RECURSION_LIMIT)
    try:
        world = World("n1")
        told: list[Any] = []

        def run() -> None:
            world.profile("deep", tune={"sysctl": deep})
            world.step(2)
            told.append(world.condition("deep", "Accepted"))
            told.append(world.phase("n1"))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(60)
    finally:
        sys.setrecursionlimit(before[0])
        threading.stack_size(before[1])
    assert told and told[0]["status"] == "False" and told[1] == "Applying"


def test_a_node_whose_pods_do_not_go_takes_no_others_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("n1", "n2", drain={"mode": "evict"}, maxUnavailable=2)
    world.api.put(POLICY, {"metadata": {"name": "default"}, "spec": {"maxUnavailable": 2}})
    for number in range(12):
        world.pod("n1", f"guarded{number}")
    world.step(2)
    for name in world.names:
        world.proposes(name)
    monkeypatch.setattr("tuneoperator.controllers.reconcile.TURN_S", 0.0)
    evictions: list[str] = []

    def refuse(method: str, path: str) -> None:
        if path.endswith("/eviction"):
            evictions.append(path)
            raise ApiFailed(429, "a PodDisruptionBudget says no")

    world.api.before = refuse
    world.step(30)
    assert world.phase("n2") == "Granted" and world.phase("n1") == "Draining"
    # Asked again at the pace of the poll, not in every pass.
    assert len(evictions) == 12


def test_a_pending_node_that_cannot_go_on_keeps_no_place() -> None:
    world = World("n1", "n2")
    world.step(2)
    for name in world.names:
        world.proposes(name)
    world.step(1)
    refuse = {"n1": True}

    def conflict(method: str, path: str) -> None:
        if method == "PATCH" and path.endswith("nodetunings/n1/status") and refuse["n1"]:
            raise ApiFailed(409, "moved")

    world.api.before = conflict
    world.step()
    assert world.places() == {"n1"}
    world.pod("n1")
    refuse["n1"] = False
    world.reconciler.boundaries = type(world.reconciler.boundaries)()
    world.step(6)
    assert world.phase("n2") == "Granted" and world.phase("n1") == "Pending"


def test_a_halt_stops_reboots_that_have_not_begun() -> None:
    world = World("n1", "n2", failureThreshold=1, maxUnavailable=2)
    world.step(2)
    world.says("n1", error="EINVAL")
    world.proposes("n2")
    world.step(6)
    assert world.phase("n1") == "Failed" and world.phase("n2") == "Pending"
    assert world.holds("n2") == (False, False, False)


def test_no_reboot_is_granted_for_a_revision_that_is_no_longer_wanted() -> None:
    world = World("n1", drain={"mode": "cordonAndWait"})
    path = world.pod("n1")
    world.step(2)
    world.proposes("n1")
    world.step(3)
    assert world.phase("n1") == "Draining"
    world.profile("p", 11)
    del world.api.objects[path]
    world.step(2)
    assert world.holds("n1") == (False, False, False)
    assert world.phase("n1") == "Applying" and world.tuning("n1")["status"]["rollout"]["target"].startswith("p-")


def test_refused_creations_and_statuses_are_not_tried_in_every_pass() -> None:
    world = World("n1")
    world.api.put(POLICY, {"metadata": {"name": "default"}, "spec": {}})

    def refuse(method: str, path: str) -> None:
        if method != "GET":
            raise ApiFailed(403, "someone says no")

    world.api.before = refuse
    tried: list[str] = []
    real = world.api.call

    def call(method: str, path: str, *rest: Any) -> bytes:
        if method != "GET":
            tried.append(path)
        return real(method, path, *rest)

    world.api.call = call  # type: ignore[method-assign]
    world.step(20)
    assert len(tried) < 12, tried
    assert isinstance(NodeTuning, type)
