"""The operator's pure pieces: policy, ledger, acceptance, what a profile's status says, back-off, stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tuneagent.contracts.kubernetes import ConfigMap, Node, NodeInfo, NodeStatus, WorkloadPod
from tuneagent.contracts.node_selector import NodeSelector
from tuneagent.contracts.node_tuning import AgentReport, Grant, NodeTuning, NodeTuningSpec, NodeTuningStatus, Taken
from tuneagent.contracts.object_meta import ObjectMeta
from tuneagent.contracts.tuning_policy import TuningPolicy
from tuneagent.contracts.tuning_profile import NodeCounts, TuningProfile
from tuneoperator.controllers.workqueue import Backoff, WorkQueue
from tuneoperator.decide import ledger
from tuneoperator.decide.accept import Acceptance, Accepted
from tuneoperator.decide.advance import Stops, advance
from tuneoperator.decide.ledger import Place
from tuneoperator.decide.policy import policy_of
from tuneoperator.decide.profile_report import Selection, rolled_out
from tuneoperator.decide.rollout import decide
from tuneoperator.decide.rollout_model import Limits, NodeState, Step
from tuneoperator.decide.state import Around, is_in_hand, node_state, stands_in_the_way
from tuneoperator.kube.store import Store


@pytest.mark.parametrize(
    "spec",
    [
        {"maxUnavailable": "lots"}, {"maxUnavailable": -5}, {"maxUnavailable": "500%"}, {"maxUnavailable": "5 %"},
        {"maxUnavailable": True}, {"maxUnavailable": 1.5}, {"maxUnavailable": None}, {"maxUnavailable": {"a": 1}},
        {"pause": "maybe"}, {"approve": "all"}, {"approve": [1]}, {"maxunavailable": 3},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_begins_nothing(spec: dict[str, Any]) -> None:
    found = policy_of(TuningPolicy(ObjectMeta("default"), spec))
    assert found.faults and found.spec.max_unavailable == 0
    assert found.stops.startswith("Paused: TuningPolicy/default is not valid")
    assert next(iter(spec)) in found.stops


def test_without_a_policy_the_defaults_hold() -> None:
    assert policy_of(None).spec.max_unavailable == 1 and not policy_of(None).stops
    assert not policy_of(TuningPolicy(ObjectMeta("default"), {})).stops
    assert policy_of(TuningPolicy(ObjectMeta("default"), {"maxUnavailable": "10%"})).spec.max_unavailable == "10%"
    assert (
        policy_of(TuningPolicy(ObjectMeta("default"), {"pause": "all"})).stops
        == "Paused: TuningPolicy/default has pause: all"
    )


def node(name: str, *, cordoned: str = "", boot: str = "b0") -> Node:
    annotations = {"tuneagent.dev/cordoned": cordoned} if cordoned else {}
    return Node(ObjectMeta(name, annotations=annotations), status=NodeStatus(node_info=NodeInfo(boot_id=boot)))


def tuning(name: str, *, grant: bool = False, taken: str = "") -> NodeTuning:
    spec = NodeTuningSpec(profile="p", grant=Grant("d", "reboot", 900, "b0", 3) if grant else None)
    agent = AgentReport(taken=Taken("d", taken, 3) if taken else None)
    return NodeTuning(ObjectMeta(name), spec, NodeTuningStatus(agent))


def test_a_ledger_that_is_lost_is_found_again_from_cordons_and_grants() -> None:
    nodes = [node("a", cordoned="2026-11-27T00:00:00Z"), node("b"), node("c"), node("d", cordoned="true"), node("e")]
    tunings = [tuning("b", grant=True), tuning("c", taken="b0"), tuning("e"), tuning("gone", grant=True)]
    for lost in (None, ConfigMap(ObjectMeta(ledger.NAME), {}), ConfigMap(ObjectMeta(ledger.NAME), {"places": "{{{"})):
        assert set(ledger.places(lost, nodes, tunings)) == {"a", "b", "c", "d"}
    kept = ConfigMap(ObjectMeta(ledger.NAME), {"places": ledger.encoded({"e": Place("p", 5.0), "vanished": Place()})})
    found = ledger.places(kept, nodes, tunings)
    assert set(found) == {"a", "b", "c", "d", "e"} and found["e"] == Place("p", 5.0)


def test_a_grant_in_hand_is_over_with_the_answer_the_node_or_its_boot() -> None:
    assert is_in_hand(tuning("n", grant=True, taken="b0"), node("n"))
    assert not is_in_hand(tuning("n", grant=True), node("n"))
    assert not is_in_hand(tuning("n", grant=True, taken="b0"), None)
    assert not is_in_hand(tuning("n", grant=True, taken="b0"), node("n", boot="b1"))
    assert is_in_hand(tuning("n", grant=True, taken="b0"), node("n", boot=""))


HELD = NodeState(
    "n", "r", named="r", phase="Granted", phase_target="r", since=0.0, cordoned_by_us=True, unschedulable=True,
    holds_place=True, seen=True, at_revision="r", granted_digest="d", granted_disruption="reboot", granted_boot_id="b0",
    proposed_digest="d", proposed_disruption="reboot", boot_id="b0", kubelet_boot_id="b0", in_hand=True,
)  # fmt: skip


def kinds(state: NodeState, now: float = 10.0) -> list[str]:
    return [action.phase or action.kind for action in advance(state, Limits(), 0, now, Stops(), [])]


def test_what_an_agent_has_in_hand_is_nobodys_to_take_back() -> None:
    from dataclasses import replace

    # Its time is over: it is named and counted as failed, and keeps cordon and place until it answers.
    assert kinds(HELD, now=5000.0) == ["Failed"]
    failed = replace(HELD, phase="Failed")
    assert kinds(failed) == []
    assert kinds(replace(failed, in_hand=False)) == ["ungrant", "uncordon", "free"]
    # Each of these may have been the last write of an operator.
    assert kinds(replace(failed, in_hand=False, granted_digest="")) == ["uncordon", "free"]
    assert kinds(replace(failed, in_hand=False, granted_digest="", cordoned_by_us=False)) == ["free"]
    # Not taken: the grant goes first, then it is said.
    assert kinds(replace(HELD, in_hand=False), now=5000.0) == ["ungrant", "Failed", "uncordon", "free"]


def test_a_grant_written_before_its_phase_is_said_to_be_granted() -> None:
    from dataclasses import replace

    draining = replace(HELD, phase="Draining")
    assert kinds(draining) == ["Granted"]
    # The agent was quick: done before the phase was written.
    assert kinds(replace(draining, in_hand=False, proposed_digest="", boot_id="b1", kubelet_boot_id="b1")) == [
        "Granted"
    ]


def test_a_fresh_object_of_a_cordoned_node_waits_for_its_agent() -> None:
    from dataclasses import replace

    fresh = NodeState(
        "n", "r", cordoned_by_us=True, cordoned_since=0.0, unschedulable=True, holds_place=True, answered=False
    )
    assert kinds(fresh, now=100.0) == []
    assert kinds(fresh, now=1900.0) == ["uncordon", "free"]
    assert kinds(replace(fresh, answered=True), now=100.0) == ["uncordon", "free"]
    # Nothing begins on it meanwhile.
    assert decide([fresh], Limits(), places_free=1, now=100.0).actions == ()


def test_no_class_that_does_not_exist_is_granted() -> None:
    from dataclasses import replace

    wild = replace(
        HELD, phase="Pending", proposed_disruption="x", granted_digest="", in_hand=False, cordoned_by_us=False
    )
    assert "Failed" in kinds(wild)
    assert "Failed" in kinds(replace(wild, phase="Applying", holds_place=False))


def test_a_cordon_that_cannot_be_set_is_given_up_in_time() -> None:
    from dataclasses import replace

    draining = replace(
        HELD, phase="Draining", granted_digest="", in_hand=False, cordoned_by_us=False, unschedulable=False
    )
    assert kinds(draining, now=10.0) == ["cordon"]
    assert kinds(draining, now=700.0) == ["Failed", "free"]


def test_a_refusal_fails_at_once() -> None:
    applying = NodeState("n", "r", named="r", phase="Applying", phase_target="r", seen=True, refusal="no memory for it")
    (action,) = advance(applying, Limits(), 0, 1.0, Stops(), [])
    assert action.phase == "Failed" and action.reason == "refused by its agent: no memory for it"


def test_a_node_that_is_down_leaves_less_room() -> None:
    waiting = NodeState("a", "r", named="r", phase="Pending", phase_target="r", seen=True, at_revision="r", idle=True,
                        proposed_digest="d", proposed_disruption="gpu")  # fmt: skip
    limits = Limits(max_unavailable=1, max_parallel_live=5, max_unhealthy=5)
    assert [one.kind for one in decide([waiting], limits, places_free=1, now=1.0).actions] == [
        "take",
        "phase",
        "cordon",
    ]
    for other in (NodeState("b", "r", ready=False), NodeState("b", "r", unschedulable=True)):
        assert not decide([waiting, other], limits, places_free=1, now=1.0).actions


def pod(phase: str = "Running", **meta: object) -> WorkloadPod:
    found = {"metadata": {"namespace": "default", **meta}, "spec": {"containers": [{}]}, "status": {"phase": phase}}
    return msgspec.convert(found, WorkloadPod)


@pytest.mark.parametrize("disruption", ["reboot", "kubelet"])
def test_a_reboot_waits_for_every_pod_that_it_would_kill(disruption: str) -> None:
    assert stands_in_the_way(pod(), disruption)
    assert stands_in_the_way(pod(ownerReferences=[{"kind": "ReplicaSet"}]), disruption)
    assert not stands_in_the_way(pod(ownerReferences=[{"kind": "DaemonSet"}]), disruption)
    assert not stands_in_the_way(pod(annotations={"kubernetes.io/config.mirror": "x"}), disruption)
    assert not stands_in_the_way(pod("Succeeded"), disruption)
    own = {"namespace": "tuneagent-system", "labels": {"app": "tuneagent-operator"}}
    assert not stands_in_the_way(pod(**own), disruption)
    assert not stands_in_the_way(pod(), "gpu")


ACCEPTED = Acceptance().judge(
    [TuningProfile(ObjectMeta("p", generation=1), {"nodeSelector": {"matchLabels": {"a": "b"}}})]
)["p"]
DONE = NodeState("n1", "r", named="r", phase="Done", phase_target="r", at_revision="r")


def status(
    step: Step, states: list[NodeState], answer: Any = ACCEPTED, selection: Selection | None = None
) -> tuple[str, str]:
    found = rolled_out(answer, step, states, selection or Selection())
    return found.status, found.reason


def test_rolled_out_is_true_only_of_nodes_that_are_known_to_be_as_wanted() -> None:
    from dataclasses import replace

    counts = NodeCounts(selected=1, in_flight=1)
    assert status(Step(finished=True), [DONE]) == ("True", "Done")
    assert status(Step(finished=True), []) == ("False", "NoNodes")
    assert status(Step(finished=True), [DONE, replace(DONE, phase="Failed")]) == ("False", "NodesFailed")
    assert status(Step(finished=True), [DONE, replace(DONE, ready=False)]) == ("False", "NodesNotReady")
    assert status(Step(finished=True), [DONE, replace(DONE, agent_ready=False)]) == ("False", "NodesNotReady")
    assert status(Step(finished=True), [DONE], ("spec.tune: wrong",)) == ("False", "NotAccepted")
    assert status(Step(counts=counts), [DONE]) == ("False", "InProgress")
    lost = rolled_out(ACCEPTED, Step(finished=True), [], Selection(matched=2, winners={"q"}))
    assert "governed by q" in lost.message


def test_acceptance_is_the_agents_own_check_with_every_fault() -> None:
    spec = {
        "nodeSelector": {"gpu": "h100"},
        "rollout": {"canary": -1},
        "tune": {"sysctl": {"kernel.core_pattern": "|x"}},
    }
    answer = Acceptance().judge([TuningProfile(ObjectMeta("p"), spec)])["p"]
    assert isinstance(answer, tuple)
    told = "; ".join(answer)
    assert all(part in told for part in ("matchLabels: {gpu: h100}", "canary", "kernel.core_pattern"))


def test_one_profiles_trouble_is_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoperator.decide import accept

    real = accept.checked

    def breaks(document: Any, *rest: Any) -> Any:
        if document["metadata"]["name"] == "bad":
            raise KeyError("a fault of ours")
        return real(document, *rest)

    monkeypatch.setattr(accept, "checked", breaks)
    answers = Acceptance().judge(
        [TuningProfile(ObjectMeta("bad")), TuningProfile(ObjectMeta("good"), {"allNodes": True})]
    )
    assert isinstance(answers["good"], Accepted)
    assert isinstance(answers["bad"], tuple) and "a fault of ours" in answers["bad"][0]


def test_a_profile_that_says_nothing_of_drift_means_repair_here() -> None:
    assert isinstance(ACCEPTED, Accepted) and ACCEPTED.profile.spec.drift == "repair"
    assert ACCEPTED.candidate.selector == NodeSelector({"a": "b"})
    assert ACCEPTED.revision == f"p-{ACCEPTED.profile.revision}"


def test_a_profile_that_is_too_large_with_what_it_extends_is_refused() -> None:
    accept = [{"tunable": "sysctl", "subject": f"key:{number}", "reason": "x" * 900} for number in range(300)]
    answer = Acceptance().judge([TuningProfile(ObjectMeta("p"), {"accept": accept})])["p"]
    assert isinstance(answer, tuple) and "the limit is 262144" in answer[0]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_back_off_holds_when_events_come() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add("a")
    assert queue.take(0) == "a"
    assert queue.failed("a") == 0.5
    queue.add("a")
    queue.add("a", 0.1)
    assert queue.take(0) is None
    clock.now = 0.6
    assert queue.take(0) == "a"
    assert queue.failed("a") == 1.0
    queue.succeeded("a")
    queue.add("a")
    assert queue.take(0) == "a"


def test_a_back_off_grows_to_a_minute() -> None:
    backoff = Backoff(Clock())
    assert [backoff.failed("n") for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.left("n") == 60 and backoff.left("m") == 0
    for _ in range(2000):
        backoff.failed("n")
    backoff.succeeded("n")
    assert backoff.left("n") == 0


class Pages:
    """An API server that answers with these pages and then these events."""

    def __init__(self, items: list[Any], events: list[Any]) -> None:
        self.items = items
        self.events = events

    def call(self, *_: Any) -> bytes:
        return json.dumps({"metadata": {"resourceVersion": "1"}, "items": self.items}).encode()

    def watch(self, *_: Any) -> Iterator[bytes]:
        yield from (json.dumps(event).encode() for event in self.events)


def test_an_object_that_cannot_be_read_is_named_and_stops_no_other() -> None:
    good = {"metadata": {"name": "good", "resourceVersion": "1"}}
    bad = {"metadata": {"name": "bad", "resourceVersion": "1"}, "spec": {"grant": "yes"}}
    api: Any = Pages(
        [good, bad], [{"type": "MODIFIED", "object": {**bad, "metadata": {"name": "good", "resourceVersion": "2"}}}]
    )
    store = Store(api, "/x", NodeTuning, lambda: None)
    store._list()
    assert [one.metadata.name for one in store.all()] == ["good"] and set(store.faults()) == {"bad"}
    # One that was sound and is no more keeps its last sound state.
    store._watch("1")
    assert [one.metadata.name for one in store.all()] == ["good"] and set(store.faults()) == {"bad", "good"}
    api.events = [{"type": "DELETED", "object": {**bad, "metadata": {"name": "bad", "resourceVersion": "3"}}}]
    store._watch("2")
    assert set(store.faults()) == {"good"}


def test_a_node_state_knows_whose_cordon_it_is_from_the_node_alone() -> None:
    state = node_state(tuning("n"), node("n", cordoned="2026-11-27T00:00:10Z"), "r", Around(agent_ready=True))
    assert state.cordoned_by_us and state.cordoned_since == 1795737610.0
    assert node_state(tuning("n"), node("n", cordoned="true"), "r", Around(agent_ready=True)).cordoned_since == 0.0
