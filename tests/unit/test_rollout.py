"""Invariants of roll-outs over random fleets, faults and operator deaths; and the pure pieces beside it."""

from __future__ import annotations

import os
from dataclasses import replace

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tuneagent.contracts.kubernetes import WorkloadPod
from tuneagent.contracts.node_selector import NodeSelector
from tuneagent.profile_files.selector import parse_selector
from tuneoperator.decide.assign import Candidate, assign
from tuneoperator.decide.rollout import decide
from tuneoperator.decide.rollout_model import IN_FLIGHT, Action, Limits, NodeState, resolve_limit
from tuneoperator.decide.state import holds_gpu, needs_approval

LIMITS = Limits(
    max_unavailable=2,
    max_parallel_live=3,
    max_unhealthy=2,
    canary=1,
    soak_s=30,
    failure_threshold=2,
    drain_timeout_s=500,
)
HEAVY = ("", "gpu", "reboot")


class Fleet(RuleBasedStateMachine):
    """Nodes, their agents, and an operator that may die between any two actions."""

    @initialize(needs_grant=st.lists(st.sampled_from(HEAVY), min_size=3, max_size=8), bad=st.integers(0, 255))
    def start(self, needs_grant: list[str], bad: int) -> None:
        self.now = 0.0
        self.paused = ""
        self.revision = 1
        self.needs_grant = {f"n{number}": kind for number, kind in enumerate(needs_grant)}
        self.bad = {name: bool(bad >> number & 1) and number % 2 == 1 for number, name in enumerate(self.needs_grant)}
        self.nodes = {name: NodeState(name, "r1", idle=True) for name in self.needs_grant}
        self.others_cordon: set[str] = set()
        self.granted_now: set[str] = set()

    def _perform(self, action: Action) -> None:
        node = self.nodes[action.node]
        if action.kind in ("name", "baseline"):
            node = replace(node, named=node.target, phase="Applying", phase_target=node.target, since=self.now,
                           attempts=0, previous=node.named, seen=False, granted_digest="", granted_disruption="")  # fmt: skip
        elif action.kind == "phase":
            node = replace(node, phase=action.phase, since=self.now)
        elif action.kind == "take":
            assert sum(one.is_down for one in self.nodes.values()) < LIMITS.max_unavailable
            node = replace(node, holds_place=True)
        elif action.kind == "free":
            assert not node.granted_digest and not node.in_hand and not node.cordoned_by_us, "the place goes last"
            node = replace(node, holds_place=False)
        elif action.kind == "cordon":
            node = replace(node, cordoned_by_us=True, unschedulable=True, cordoned_since=self.now)
        elif action.kind == "uncordon":
            assert not node.granted_digest and not node.in_hand, "the cordon goes before the grant"
            node = replace(node, cordoned_by_us=False, unschedulable=action.node in self.others_cordon)
        elif action.kind == "grant":
            assert node.holds_place and node.cordoned_by_us, "a grant without a place or a cordon"
            assert action.digest == node.proposed_digest
            assert node.unschedulable, "a grant on a node that takes pods"
            node = replace(node, granted_digest=action.digest, granted_disruption=action.disruption,
                           attempts=node.attempts + 1, granted_boot_id=node.boot_id)  # fmt: skip
        elif action.kind == "revert":
            assert node.phase == "Failed", node
            node = replace(node, named=action.revision)
        elif action.kind == "ungrant":
            assert not node.in_hand, "a grant that the agent has taken is taken back"
            node = replace(node, granted_digest="", granted_disruption="")
        self.nodes[action.node] = node

    @rule(cut=st.integers(0, 12))
    def operator_looks(self, cut: int) -> None:
        down = sum(node.is_down for node in self.nodes.values())
        step = decide(list(self.nodes.values()), LIMITS, places_free=2 - down, now=self.now, paused=self.paused)
        # It may die after any action; what follows is decided anew from what is there.
        for action in step.actions[: cut if cut < 10 else None]:
            self._perform(action)

    @rule(pick=st.integers(0, 7))
    def agent_answers(self, pick: int) -> None:
        name = sorted(self.nodes)[pick % len(self.nodes)]
        node = self.nodes[name]
        if not (node.ready and node.agent_ready):
            return
        if node.named and node.at_revision != node.named:
            digest = f"d-{name}-{node.named}" if self.needs_grant[name] else ""
            error = "EINVAL" if self.bad[name] else ""
            node = replace(node, at_revision=node.named, seen=True, proposed_digest=digest,
                           proposed_disruption=self.needs_grant[name], error=error)  # fmt: skip
        elif node.in_hand:
            # The answer to what it took: made, or its plan has moved.
            boot = f"{node.boot_id}x" if node.granted_disruption == "reboot" else node.boot_id
            node = replace(node, proposed_digest="", boot_id=boot, kubelet_boot_id=boot, in_hand=False, seen=True)
        elif node.granted_digest and node.granted_digest == node.proposed_digest:
            assert node.holds_place and node.cordoned_by_us, node
            node = replace(node, in_hand=True, seen=True)
        else:
            node = replace(node, seen=True)
        self.nodes[name] = node

    @rule(pick=st.integers(0, 7), ready=st.booleans(), idle=st.booleans())
    def the_world_moves(self, pick: int, ready: bool, idle: bool) -> None:
        name = sorted(self.nodes)[pick % len(self.nodes)]
        self.nodes[name] = replace(self.nodes[name], ready=ready, idle=idle)

    @rule(pick=st.integers(0, 7))
    def someone_else_cordons(self, pick: int) -> None:
        name = sorted(self.nodes)[pick % len(self.nodes)]
        if not self.nodes[name].cordoned_by_us:
            self.others_cordon.add(name)
            self.nodes[name] = replace(self.nodes[name], unschedulable=True)

    @rule(seconds=st.sampled_from([1.0, 40.0, 700.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_new_revision(self) -> None:
        self.revision += 1
        for name, node in self.nodes.items():
            self.nodes[name] = replace(node, target=f"r{self.revision}")

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.paused = "Paused: by hand" if paused else ""

    @invariant()
    def never_above_budget(self) -> None:
        nodes = getattr(self, "nodes", {})
        assert sum(node.holds_place for node in nodes.values()) <= LIMITS.max_unavailable
        assert not any(node.in_hand and not node.holds_place for node in nodes.values())
        assert sum(node.cordoned_by_us for node in nodes.values()) <= LIMITS.max_unavailable
        assert sum(node.phase in IN_FLIGHT for node in nodes.values()) <= LIMITS.max_parallel_live

    @invariant()
    def no_cordon_without_a_place(self) -> None:
        for node in getattr(self, "nodes", {}).values():
            assert not node.cordoned_by_us or node.holds_place, node
            assert not node.granted_digest or node.holds_place, node

    def teardown(self) -> None:
        """With a quiet world every roll-out ends or halts with a named cause, and nothing stays cordoned."""
        if not hasattr(self, "nodes"):
            return
        self.paused = ""
        self.others_cordon.clear()
        for name, node in self.nodes.items():
            self.nodes[name] = replace(node, ready=True, idle=True, unschedulable=node.cordoned_by_us)
        step = None
        for _ in range(400):
            down = sum(node.is_down for node in self.nodes.values())
            step = decide(list(self.nodes.values()), LIMITS, places_free=2 - down, now=self.now)
            for action in step.actions:
                self._perform(action)
            for pick in range(len(self.nodes)):
                self.agent_answers(pick)
            self.now += 20
            if not step.actions and (step.finished or step.halted) and not self._is_busy():
                break
        assert step is not None and (step.finished or step.halted), (step, self.nodes)
        assert not step.halted or "Failure" in step.halted, step.halted
        for node in self.nodes.values():
            assert not (node.cordoned_by_us or node.holds_place or node.granted_digest), node

    def _is_busy(self) -> bool:
        # What a node holds that has not answered since its object was made is given back after a time.
        return any(
            node.phase in IN_FLIGHT or node.in_hand or node.cordoned_by_us or node.holds_place
            for node in self.nodes.values()
        )


TestFleet = Fleet.TestCase
SOAK = bool(os.environ.get("TUNEAGENT_SOAK"))
TestFleet.settings = settings(max_examples=5000 if SOAK else 150, stateful_step_count=40, deadline=None)


def test_a_granted_reboot_is_proven_by_the_boot_id_alone() -> None:
    waiting = NodeState(
        "n", "r1", named="r1", phase="Granted", phase_target="r1", holds_place=True, cordoned_by_us=True, unschedulable=True,
        seen=True, at_revision="r1", granted_digest="d", granted_disruption="reboot",
        boot_id="b0", granted_boot_id="b0", idle=True,
    )  # fmt: skip
    assert decide([waiting], LIMITS, places_free=0, now=1.0).actions == ()
    done = decide([replace(waiting, boot_id="b1")], LIMITS, places_free=0, now=1.0)
    assert [action.phase for action in done.actions] == ["Finishing"]


def test_a_place_taken_before_a_death_is_used_and_not_taken_twice() -> None:
    node = NodeState("n", "r1", named="r1", phase="Pending", phase_target="r1", holds_place=True, seen=True,
                     at_revision="r1", proposed_digest="d", proposed_disruption="gpu", idle=True)  # fmt: skip
    step = decide([node], Limits(max_unavailable=1), places_free=0, now=1.0)
    assert [action.kind for action in step.actions] == ["phase", "cordon"]


def test_a_revision_that_was_not_named_is_named_again() -> None:
    node = NodeState("n", "r2", named="r1", phase="Applying", phase_target="r2", since=0.0)
    assert [action.kind for action in decide([node], LIMITS, places_free=1, now=5.0).actions] == ["name"]


def test_time_limits_stand_still_while_paused() -> None:
    node = NodeState("n", "r1", named="r1", phase="Applying", phase_target="r1", since=0.0)
    step = decide([node], LIMITS, places_free=1, now=5000.0, paused="Paused: by hand")
    assert [(action.kind, action.phase) for action in step.actions] == [("phase", "Applying")]


def test_a_cordon_of_someone_else_gives_the_place_back() -> None:
    node = NodeState("n", "r1", named="r1", phase="Draining", phase_target="r1", holds_place=True, unschedulable=True,
                     seen=True, at_revision="r1", proposed_digest="d", proposed_disruption="gpu", idle=True)  # fmt: skip
    step = decide([node], LIMITS, places_free=0, now=1.0)
    assert [(action.kind, action.phase) for action in step.actions] == [("phase", "Pending"), ("free", "")]


def test_limits_are_counts_or_per_cents_rounded_up() -> None:
    assert [resolve_limit(value, 25) for value in (0, 3, "10%", "0%", "100%")] == [0, 3, 3, 0, 25]


def _candidate(name: str, priority: int) -> Candidate:
    return Candidate(name, NodeSelector(), priority, all_nodes=True)


def test_highest_priority_wins_and_a_tie_keeps_the_present_one() -> None:
    both = [_candidate("b", 5), _candidate("a", 5), _candidate("c", 1)]
    assert assign({}, both, None).profile == "a"
    assert assign({}, both, "b").profile == "b"
    assert assign({}, both, "b").conflict == ("a", "b")
    assert assign({}, list(reversed(both)), "b") == assign({}, both, "b")


def _selector(raw: object) -> NodeSelector:
    faults: list[str] = []
    found = parse_selector(raw, "spec.nodeSelector", faults)
    assert not faults, faults
    return found


def test_selectors() -> None:
    labels = {"gpu": "h100", "zone": "a"}
    assert _selector({"matchLabels": {"gpu": "h100"}}).matches(labels)
    assert not _selector({"matchLabels": {"gpu": "h200"}}).matches(labels)
    expressions = [{"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}]
    assert _selector({"matchExpressions": expressions}).matches(labels)
    assert not _selector({}).matches(labels)


def test_only_running_pods_hold_gpus() -> None:
    def pod(spec: dict[str, object], phase: str = "Running") -> WorkloadPod:
        return msgspec.convert({"spec": spec, "status": {"phase": phase}}, WorkloadPod)

    with_gpu: dict[str, object] = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}
    assert holds_gpu(pod(with_gpu))
    assert not holds_gpu(pod(with_gpu, "Succeeded"))
    assert holds_gpu(pod({"initContainers": with_gpu["containers"]}))
    assert holds_gpu(pod({"containers": [{"resources": {"requests": {"nvidia.com/mig-1g.10gb": 1}}}]}))
    assert holds_gpu(pod({"resourceClaims": [{"name": "gpu"}]}))
    assert not holds_gpu(pod({"containers": [{"resources": {"limits": {"cpu": "1"}}}]}))


def test_many_nodes_losing_their_profile_wait_for_people() -> None:
    losing = {f"n{number}": "old-1" if number < 5 else "new-2" for number in range(8)}
    assert needs_approval({"n0": "old-1"}, 1, ()) == {}
    assert needs_approval(losing, 32, ()) == {}
    assert needs_approval(losing, 20, ()) == losing
    assert needs_approval(losing, 20, ("old-1",)) == {}
    more = {f"m{number}": "new-2" for number in range(9)}
    assert needs_approval({**losing, **more}, 20, ("old-1",)) == {
        node: revision for node, revision in {**losing, **more}.items() if revision == "new-2"
    }
