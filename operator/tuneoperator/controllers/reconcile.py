"""One name in, patches out. Level-based: everything is decided from the objects as they are now.

One boundary around each object: an error with a profile or a node is reported for that object, which is retried later,
and the pass continues with the rest.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
from tuneagent.contracts.kubernetes import Node
from tuneagent.contracts.node_tuning import NewNodeTuning, NodeTuning, NodeTuningSpec
from tuneagent.contracts.object_meta import Condition, NewMeta, OwnerReference
from tuneagent.contracts.tuning_profile import ProfileStatus, RolloutSpec

from tuneoperator.controllers.actions import Actions, Decided
from tuneoperator.controllers.boundary import Boundaries
from tuneoperator.controllers.workqueue import WorkQueue
from tuneoperator.decide import ledger, profile_report
from tuneoperator.decide.accept import Acceptance, Accepted
from tuneoperator.decide.assignment import Assigned, too_old
from tuneoperator.decide.policy import Policy, policy_of
from tuneoperator.decide.profile_report import Selection
from tuneoperator.decide.rollout import decide
from tuneoperator.decide.rollout_model import (
    APPLY_LIMIT_S,
    GRANT_LIMIT_S,
    Action,
    Limits,
    NodeState,
    Step,
    resolve_limit,
)
from tuneoperator.decide.state import CORDON_ANNOTATION, Around, cordoned_since, limits_of, needs_approval, node_state
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.cluster import Cluster

log = logging.getLogger("tuneoperator")
ALL = "*"
# The group of nodes that no profile governs any more.
NOBODY = ""
# After this time, a pass that has much to write lets others have a turn.
TURN_S = 0.5


@dataclass(frozen=True)
class TimeLimits:
    """Seconds a node has to make its live changes, and its granted changes."""

    apply_s: float = APPLY_LIMIT_S
    grant_s: float = GRANT_LIMIT_S


class Reconciler:
    """Decides for one name at a time; `*` assigns nodes to profiles, any other name is a profile's roll-out."""

    def __init__(
        self,
        cluster: Cluster,
        queue: WorkQueue,
        acceptance: Acceptance,
        clock: Callable[[], float] = time.time,
        limits: TimeLimits = TimeLimits(),
    ) -> None:
        self.cluster = cluster
        self.queue = queue
        self.acceptance = acceptance
        self.clock = clock
        self.limits = limits
        self.actions = Actions(cluster, clock)
        self.assigned = Assigned()
        self.boundaries = Boundaries()
        # The node at which a profile's last turn ended, and when pods were last evicted from a node.
        self.resume: dict[str, str] = {}
        self.evicted: dict[str, float] = {}

    def reconcile(self, name: str) -> None:
        """Process one name. Does nothing while a copy of the cluster is incomplete: a missing object proves nothing."""
        if not self.cluster.synced:
            if name == ALL and self.cluster.can_wind_down:
                self._wind_down()
            self.queue.add(name, 1.0)
            return
        if name == ALL:
            self._assign_all()
            for profile in [*self.assigned.answers, NOBODY]:
                self.queue.add(f"profile/{profile}")
        else:
            self._roll_out(name.removeprefix("profile/"))

    def _assign_all(self) -> None:
        standing = [one for one in self.cluster.profiles.all() if one.metadata.deletion_timestamp is None]
        answers = dict(self.acceptance.judge(standing))
        # A profile that cannot even be read is not accepted either, and keeps its nodes.
        answers.update({name: (fault,) for name, fault in self.cluster.profiles.faults().items()})
        assigned = Assigned(answers, {}, {name: Selection() for name in answers})
        for node in self.cluster.nodes.all():
            with self.boundaries.around(f"assign/{node.metadata.name}"):
                self._assign(node, assigned)
        self.assigned = assigned
        for name, answer in answers.items():
            self.boundaries.attempt(f"profile/{name}", self._report_acceptance, name, answer)
        self.boundaries.attempt("policy", self._report_policy)
        self.boundaries.attempt("ledger", self._keep_ledger)
        self._release({tuning.metadata.name: tuning for tuning in self.cluster.tunings.all()})

    def _assign(self, node: Node, assigned: Assigned) -> None:
        name = node.metadata.name
        tuning = self.cluster.tunings.get(name)
        assigned.add(node, tuning.spec.profile if tuning else None)
        wanted = assigned.profile_of[name] is not None and tuning is None and name not in self.cluster.tunings.faults()
        if wanted:
            self.boundaries.attempt(f"node/{name}", self._create_tuning, node)

    def _create_tuning(self, node: Node) -> None:
        self.cluster.check_leader()
        name = node.metadata.name
        owner = OwnerReference(api_version="v1", kind="Node", name=name, uid=node.metadata.uid)
        spec = NodeTuningSpec(machine_id=node.status.node_info.machine_id)
        body = NewNodeTuning(NewMeta(name, (owner,)), spec)
        path = self.cluster.path("nodetunings")
        try:
            self.cluster.tunings.put(self.cluster.api.call("POST", path, msgspec.to_builtins(body)))
        except ApiFailed as error:
            if error.status != 409:
                raise

    def _report_acceptance(self, name: str, answer: Accepted | tuple[str, ...]) -> None:
        self.cluster.profile_status(name, None, [profile_report.acceptance(answer)])

    def _report_policy(self) -> None:
        policy = policy_of(self.cluster.policy())
        valid = Condition("Accepted", "True", "Valid")
        invalid = Condition("Accepted", "False", "Invalid", f"nothing new begins: {'; '.join(policy.faults)}")
        self.cluster.policy_status(None, [invalid if policy.faults else valid])

    def _keep_ledger(self) -> None:
        """Update the ledger to the places that are held: drop nodes that are gone, restore places that it lost."""
        held = self.cluster.places()
        if held != ledger.written(self.cluster.ledgers.get(ledger.NAME)):
            self.cluster.write_places(held)

    def _release(self, tunings: dict[str, NodeTuning]) -> None:
        """Remove our cordon from nodes without a NodeTuning, after the grant limit: their agents may be at work."""
        for node in self.cluster.nodes.all():
            name = node.metadata.name
            if CORDON_ANNOTATION not in node.metadata.annotations or name in tunings:
                continue
            left = self.limits.grant_s - (self.clock() - cordoned_since(node))
            if left > 0 or self.boundaries.left(f"node/{name}"):
                self.queue.add(ALL, max(left, self.boundaries.left(f"node/{name}"), 0.1))
                continue
            with self.boundaries.around(f"node/{name}"):
                self.cluster.check_leader()
                log.warning("removed the cordon from a node without a NodeTuning", extra={"fields": {"node": name}})
                self.actions.uncordon(Decided(name, None, node))
                self.actions.free(name)

    def _group(self, name: str) -> list[NodeTuning]:
        """NodeTunings of a profile's nodes; of the nodes that no profile governs, those that still hold something."""
        held = self.cluster.places()
        found = []
        for tuning in self.cluster.tunings.all():
            node = tuning.metadata.name
            if node not in self.assigned.profile_of or (self.assigned.profile_of[node] or NOBODY) != name:
                continue
            busy = tuning.spec.profile or tuning.status.rollout.phase not in ("Waiting", "Baseline") or node in held
            if name == NOBODY and not busy:
                continue
            found.append(tuning)
        return found

    def _room(self, policy: Policy) -> int:
        """Free places in the cluster: how many governed nodes may be down, minus how many are down."""
        down = set(self.cluster.places())
        governed = {
            *self.assigned.governed,
            *(one.metadata.name for one in self.cluster.tunings.all() if one.spec.profile),
        }
        for name in governed:
            node = self.cluster.nodes.get(name)
            if node is not None and (not node.ready or node.spec.unschedulable):
                down.add(name)
        return resolve_limit(policy.spec.max_unavailable, max(len(governed), len(down))) - len(down)

    def _roll_out(self, name: str) -> None:
        answer = self.assigned.answers.get(name)
        if answer is None and name != NOBODY:
            return
        one = self.assigned.accepted(name)
        group = self._group(name)
        policy = policy_of(self.cluster.policy())
        waiting = self._waiting(group, policy) if name == NOBODY else {}
        paused = policy.stops or self._why_not(one, name, group)
        decided = self._decided(group)
        states = self._states(group, one, name == NOBODY, waiting, decided)
        limits = self._limits(one, len(group))
        step = decide(states, limits, places_free=self._room(policy), now=self.clock(), paused=paused)
        again_s = self._perform(step, name, decided, policy)
        if answer is not None:
            self.boundaries.attempt(f"profile/{name}", self._report, name, answer, step, states)
        for after_s in (step.next_check_s, again_s):
            if after_s is not None:
                self.queue.add(f"profile/{name}", after_s)
        if any(state.phase in ("Pending", "Draining") for state in states):
            # Pods come and go without an event that we watch.
            self.queue.add(f"profile/{name}", self.cluster.poll_s)

    def _wind_down(self) -> None:
        """One of our kinds is gone: nothing begins or is undone, and what nodes hold is given back in due course."""
        tunings = self.cluster.tunings.all() if self.cluster.tunings.is_served else []
        held = self.cluster.places()
        group = [tuning for tuning in tunings if tuning.metadata.name in held]
        decided = self._decided(group)
        states = self._states(group, None, False, {}, decided)
        paused = "NotServed: the CustomResourceDefinitions of tuneagent are missing"
        step = decide(states, self._limits(None, 0), places_free=0, now=self.clock(), paused=paused)
        self._perform(step, "", decided, Policy())
        self._release({tuning.metadata.name: tuning for tuning in tunings})

    def _decided(self, group: list[NodeTuning]) -> dict[str, Decided]:
        """The objects on which decisions about these nodes are based, at the versions that their writes require."""
        nodes = self.cluster.nodes
        return {(name := one.metadata.name): Decided(name, one, nodes.get(name)) for one in group}

    def _states(
        self,
        group: list[NodeTuning],
        one: Accepted | None,
        is_nobodys: bool,
        waiting: dict[str, str],
        decided: dict[str, Decided],
    ) -> list[NodeState]:
        held = self.cluster.places()
        ready = self.cluster.ready_agents()
        states = []
        for tuning in group:
            name = tuning.metadata.name
            # What is under way for a profile that is no longer valid is finished; nothing new begins.
            target = one.revision if one else "" if is_nobodys else tuning.status.rollout.target
            around = Around(
                name in ready, too_old(tuning, one), name in held, self._idle(tuning), name in waiting, is_nobodys
            )
            states.append(node_state(tuning, decided[name].node, target, around))
        return states

    def _idle(self, tuning: NodeTuning) -> bool | None:
        """Whether no pod on the node is in the way of its change; None if that was not checked or is not known."""
        name, proposal = tuning.metadata.name, tuning.status.node.proposal
        if tuning.status.rollout.phase not in ("Pending", "Draining") or self.boundaries.left(f"pods/{name}"):
            return None
        found = None
        with self.boundaries.around(f"pods/{name}"):
            found = self.cluster.pods_in_the_way(name, proposal.disruption if proposal else "reboot")
        return None if found is None else not found

    def _why_not(self, one: Accepted | None, name: str, group: list[NodeTuning]) -> str:
        """Why nothing new may begin for a profile; empty if it may. Stores its revision."""
        if one is None:
            return "" if name == NOBODY else "NotAccepted: the current profile is not accepted"
        key = f"revision/{one.revision}"
        if group:
            self.boundaries.attempt(key, self.cluster.ensure_revision, one.profile, one.revision)
        if self.boundaries.left(key):
            self.queue.add(f"profile/{name}", self.boundaries.left(key))
            return f"RevisionNotStored: {self.boundaries.refused.get(key, 'the API server did not accept it')}"
        return ""

    def _perform(self, step: Step, name: str, decided: dict[str, Decided], policy: Policy) -> float | None:
        """Carry out a step, node by node. Returns the seconds until the next try, None if nothing is left to do."""
        began = time.monotonic()
        again: list[float] = []
        by_node = [(node, list(one)) for node, one in itertools.groupby(step.actions, key=lambda action: action.node)]
        # Continue after the node at which the last turn ended: a slow node must not take every turn.
        last = self.resume.pop(name, "")
        for node, actions in sorted(by_node, key=lambda pair: pair[0] <= last):
            key = f"node/{node}"
            if name in self.resume and time.monotonic() - began > TURN_S:
                return 0.0
            self.resume[name] = node
            if left := self.boundaries.left(key) or self._paced(node, actions):
                again.append(left)
                continue
            with self.boundaries.around(key):
                for action in actions:
                    self.actions.perform(action, name, decided[node], lambda: self._room(policy))
            if left := self.boundaries.left(key):
                again.append(left)
        self.resume.pop(name, None)
        return min(again, default=None)

    def _paced(self, node: str, actions: list[Action]) -> float:
        """Seconds until pods of a node are evicted again; what a PodDisruptionBudget refuses takes time."""
        if not any(action.kind == "evict" for action in actions):
            return 0.0
        left = self.evicted.get(node, -1e9) + self.cluster.poll_s - time.monotonic()
        if left <= 0:
            self.evicted[node] = time.monotonic()
        return max(left, 0.0)

    def _limits(self, one: Accepted | None, selected: int) -> Limits:
        if one is not None:
            limits = limits_of(one.rollout, selected)
        else:
            # Percentages of all nodes, since the group shrinks as nodes leave; a stuck node does not stop the others.
            total = len(self.cluster.nodes.all())
            limits = limits_of(RolloutSpec(canary=0, soak_seconds=0, failure_threshold=total + 1), total)
        return replace(limits, apply_limit_s=self.limits.apply_s, grant_limit_s=self.limits.grant_s)

    def _waiting(self, group: list[NodeTuning], policy: Policy) -> dict[str, str]:
        """Nodes that may not lose their profile yet; more than a quarter at once needs approval."""
        losing = {
            tuning.metadata.name: tuning.spec.revision
            for tuning in group
            if tuning.spec.profile and tuning.spec.desired != "Baseline"
        }
        governed = sum(1 for tuning in self.cluster.tunings.all() if tuning.spec.profile)
        waiting = needs_approval(losing, governed, policy.spec.approve)
        self.boundaries.attempt("approval", self.cluster.policy_status, sorted(set(waiting.values())), [])
        return waiting

    def _report(self, name: str, answer: Accepted | tuple[str, ...], step: Step, states: list[NodeState]) -> None:
        one = self.assigned.accepted(name)
        selection = self.assigned.selections[name]
        mine = {f"node/{node}" for node in {state.name for state in states} | set(selection.governed)}
        tunings = [self.cluster.tunings.get(state.name) for state in states]
        old = [tuning.metadata.name for tuning in tunings if tuning is not None and too_old(tuning, one)]
        refused = {key.partition("/")[2]: why for key, why in self.boundaries.refused.items() if key in mine}
        conditions = [
            profile_report.acceptance(answer),
            profile_report.rolled_out(answer, step, states, selection),
            *profile_report.others(selection, old, refused),
        ]
        found = self.cluster.profiles.get(name)
        before = found.status if found is not None else ProfileStatus()
        revision = one.revision if one else before.revision
        status = msgspec.structs.replace(before, nodes=step.counts, revision=revision)
        self.cluster.profile_status(name, status, conditions)
