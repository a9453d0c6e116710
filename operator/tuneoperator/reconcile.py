"""One name in, patches out. Level-based: everything is decided from the objects as they are now.

One boundary around each object: whatever goes wrong with a profile or a node is told of that one, which is looked at
again later, and the pass goes on with the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tuneagent.tuning_profile import API_VERSION, Rollout

from tuneoperator import ledger, profile_report
from tuneoperator.accept import Acceptance, Accepted
from tuneoperator.actions import Actions
from tuneoperator.assign import assign
from tuneoperator.cluster import Cluster, NotLeader
from tuneoperator.kube import ApiFailed
from tuneoperator.policy import Policy, policy_of
from tuneoperator.profile_report import Selection
from tuneoperator.records import Condition, Node, NodeTuning
from tuneoperator.rollout import decide
from tuneoperator.rollout_model import APPLY_LIMIT_S, GRANT_LIMIT_S, Action, Limits, NodeState, Step, resolve_limit
from tuneoperator.state import CORDON_ANNOTATION, cordoned_since, limits_of, needs_approval, node_state
from tuneoperator.workqueue import Backoff, WorkQueue

log = logging.getLogger("tuneoperator")
ALL = "*"
# The group of nodes that no profile governs any more.
NOBODY = ""
# A pass that has much to write lets others have a turn after this time.
TURN_S = 0.5


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a node has for its live changes, and for those that were granted."""

    apply_s: float = APPLY_LIMIT_S
    grant_s: float = GRANT_LIMIT_S


@dataclass
class Assigned:
    """What the last look at all nodes gave."""

    answers: dict[str, Accepted | tuple[str, ...]] = field(default_factory=dict)
    profile_of: dict[str, str | None] = field(default_factory=dict)
    selections: dict[str, Selection] = field(default_factory=dict)

    def accepted(self, name: str) -> Accepted | None:
        """A profile that may be rolled out."""
        answer = self.answers.get(name)
        return answer if isinstance(answer, Accepted) else None

    @property
    def governed(self) -> list[str]:
        """Nodes that some profile governs."""
        return [node for node, profile in self.profile_of.items() if profile is not None]


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
        self.backoff = Backoff()
        # Nodes of which the API server refuses a write, and why.
        self.refused: dict[str, str] = {}

    def reconcile(self, name: str) -> None:
        """Look at one name. Does nothing while any copy of the cluster is incomplete: absence says nothing."""
        if not self.cluster.synced:
            if name == ALL and self.cluster.is_uninstalled:
                self._release({})
            self.queue.add(name, 1.0)
            return
        if name == ALL:
            self._assign_all()
            for profile in [*self.assigned.answers, NOBODY]:
                self.queue.add(f"profile/{profile}")
        else:
            self._roll_out(name.removeprefix("profile/"))

    @contextlib.contextmanager
    def _boundary(self, key: str) -> Iterator[None]:
        """Around one object: what goes wrong is noted for it, and it is left alone until its back-off is over."""
        try:
            yield
        except NotLeader:
            raise
        except Exception as error:
            after_s = self.backoff.failed(key)
            is_race = isinstance(error, ApiFailed) and error.status in (0, 409)
            if not is_race:
                self.refused[key] = str(error) or type(error).__name__
            log.log(
                logging.INFO if is_race else logging.WARNING,
                "again later",
                extra={"fields": {"object": key, "error": f"{type(error).__name__}: {error}", "after_s": after_s}},
                exc_info=not isinstance(error, ApiFailed),
            )
        else:
            self.backoff.succeeded(key)
            self.refused.pop(key, None)

    def _assign_all(self) -> None:
        standing = [one for one in self.cluster.profiles.all() if one.metadata.deletion_timestamp is None]
        answers = dict(self.acceptance.judge(standing))
        # One that cannot even be read is not accepted either, and keeps its nodes.
        answers.update({name: (fault,) for name, fault in self.cluster.profiles.faults().items()})
        assigned = Assigned(answers, {}, {name: Selection() for name in answers})
        for node in self.cluster.nodes.all():
            with self._boundary(f"assign/{node.metadata.name}"):
                self._assign(node, assigned)
        self.assigned = assigned
        for name, answer in answers.items():
            if not self.backoff.left(f"profile/{name}"):
                with self._boundary(f"profile/{name}"):
                    self.cluster.profile_status(name, {}, [profile_report.acceptance(answer)])
        with self._boundary("policy"):
            self._report_policy(policy_of(self.cluster.policy()))
        with self._boundary("ledger"):
            self._keep_ledger()
        self._release({tuning.metadata.name: tuning for tuning in self.cluster.tunings.all()})

    def _assign(self, node: Node, assigned: Assigned) -> None:
        name = node.metadata.name
        tuning = self.cluster.tunings.get(name)
        current = tuning.spec.profile if tuning else None
        if current in assigned.answers and assigned.accepted(str(current)) is None:
            # A profile that exists but is not valid now keeps its nodes as they are: a typo is no instruction.
            assigned.profile_of[name] = current
            assigned.selections[str(current)].governed.append(name)
            return
        candidates = [one.candidate for one in assigned.answers.values() if isinstance(one, Accepted)]
        result = assign(node.metadata.labels, candidates, current)
        assigned.profile_of[name] = result.profile
        for candidate in candidates:
            if candidate.selects(node.metadata.labels):
                selection = assigned.selections[candidate.name]
                selection.matched += 1
                selection.winners.add(str(result.profile))
                if candidate.name in result.conflict:
                    selection.tied |= set(result.conflict) - {candidate.name}
                    selection.tied_nodes.append(name)
        if result.profile is not None:
            assigned.selections[result.profile].governed.append(name)
            if tuning is None and name not in self.cluster.tunings.faults():
                self._create_tuning(node)

    def _create_tuning(self, node: Node) -> None:
        self.cluster.check_leader()
        body = {
            "apiVersion": API_VERSION,
            "kind": "NodeTuning",
            "metadata": {
                "name": node.metadata.name,
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": node.metadata.name, "uid": node.metadata.uid}
                ],
            },
            "spec": {"profile": "", "desired": "Profile", "machineId": node.status.node_info.machine_id},
        }
        try:
            self.cluster.tunings.put(self.cluster.api.call("POST", self.cluster.path("nodetunings"), body))
        except ApiFailed as error:
            if error.status != 409:
                raise

    def _report_policy(self, policy: Policy) -> None:
        valid = Condition("Accepted", "True", "Valid")
        invalid = Condition("Accepted", "False", "Invalid", f"nothing new begins: {'; '.join(policy.faults)}")
        self.cluster.policy_status({}, [invalid if policy.faults else valid])

    def _keep_ledger(self) -> None:
        """Bring the ledger to what is held: nodes that are gone leave it, what it lost is found again."""
        held = self.cluster.places()
        if held != ledger.written(self.cluster.ledgers.get(ledger.NAME)):
            self.cluster.write_places(held)

    def _release(self, tunings: dict[str, NodeTuning]) -> None:
        """Take our cordon off nodes that have no NodeTuning. What their agents were doing is not known, so in time."""
        for node in self.cluster.nodes.all():
            name = node.metadata.name
            if CORDON_ANNOTATION not in node.metadata.annotations or name in tunings:
                continue
            left = self.limits.grant_s - (self.clock() - cordoned_since(node))
            if left > 0 or self.backoff.left(f"node/{name}"):
                self.queue.add(ALL, max(left, self.backoff.left(f"node/{name}"), 0.1))
                continue
            with self._boundary(f"node/{name}"):
                self.cluster.check_leader()
                log.warning("cordon of a node without NodeTuning taken off", extra={"fields": {"node": name}})
                self.actions.uncordon(name)
                self.actions.free(name)

    def _group(self, name: str) -> list[NodeTuning]:
        """NodeTunings of a profile's nodes; of nobody's, those that still hold something."""
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
        """Places free in the cluster: of the governed nodes, as many as may be down less those that are."""
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
        limits = self._limits(one, len(group))
        paused = policy.stops or self._why_not(one, name, group)
        held = self.cluster.places()
        ready = self.cluster.ready_agents()
        states = [
            self._state(
                tuning,
                # What is under way for a profile that is not valid now is brought to its end; nothing new begins.
                one.revision if one else tuning.status.rollout.target if name != NOBODY else "",
                one,
                agent_ready=tuning.metadata.name in ready,
                holds_place=tuning.metadata.name in held,
                held_back=tuning.metadata.name in waiting,
            )
            for tuning in group
        ]
        step = decide(states, limits, places_free=self._room(policy), now=self.clock(), paused=paused)
        again_s = self._perform(step, name, one.revision if one else "", policy)
        if answer is not None and not self.backoff.left(f"profile/{name}"):
            with self._boundary(f"profile/{name}"):
                self._report(name, answer, step, states)
        for after_s in (step.next_check_s, again_s):
            if after_s is not None:
                self.queue.add(f"profile/{name}", after_s)
        if any(state.phase in ("Pending", "Draining") for state in states):
            # Pods come and go without an event that we watch.
            self.queue.add(f"profile/{name}", self.cluster.poll_s)

    def _why_not(self, one: Accepted | None, name: str, group: list[NodeTuning]) -> str:
        """Why nothing new may begin for a profile; empty if it may. Stores its revision."""
        if one is None:
            return "" if name == NOBODY else "NotAccepted: the profile as it stands is not accepted"
        key = f"revision/{one.revision}"
        if group and not self.backoff.left(key):
            with self._boundary(key):
                self.cluster.ensure_revision(one.profile, one.revision)
        if self.backoff.left(key):
            self.queue.add(f"profile/{name}", self.backoff.left(key))
            return f"RevisionNotStored: {self.refused.get(key, 'the API server did not take it')}"
        return ""

    def _perform(self, step: Step, name: str, target: str, policy: Policy) -> float | None:
        """Carry out a step, node by node. When to look again, where something is left to do."""
        began = time.monotonic()
        again: list[float] = []
        for node, actions in itertools.groupby(step.actions, key=lambda action: action.node):
            key = f"node/{node}"
            if time.monotonic() - began > TURN_S:
                return 0.0
            if left := self.backoff.left(key):
                again.append(left)
                continue
            with self._boundary(key):
                self._all_of(list(actions), name, target, policy)
            if left := self.backoff.left(key):
                again.append(left)
        return min(again, default=None)

    def _all_of(self, actions: list[Action], name: str, target: str, policy: Policy) -> None:
        for action in actions:
            self.actions.perform(action, name, target, lambda: self._room(policy))

    def _limits(self, one: Accepted | None, selected: int) -> Limits:
        if one is not None:
            limits = limits_of(one.rollout, selected)
        else:
            # Per cents of all nodes, since the group shrinks as nodes go; a node that is stuck stops no other.
            total = len(self.cluster.nodes.all())
            limits = limits_of(Rollout(canary=0, soak_s=0, failureThreshold=total + 1), total)
        return replace(limits, apply_limit_s=self.limits.apply_s, grant_limit_s=self.limits.grant_s)

    def _state(
        self,
        tuning: NodeTuning,
        target: str,
        one: Accepted | None,
        *,
        agent_ready: bool,
        holds_place: bool,
        held_back: bool,
    ) -> NodeState:
        name = tuning.metadata.name
        idle = None
        if tuning.status.rollout.phase in ("Pending", "Draining") and not self.backoff.left(f"pods/{name}"):
            with self._boundary(f"pods/{name}"):
                pending = tuning.status.node.pending
                idle = not self.cluster.pods_in_the_way(name, pending.disruption if pending else "reboot")
        return node_state(
            tuning,
            self.cluster.nodes.get(name),
            target,
            agent_ready=agent_ready,
            too_old=self._too_old(tuning, one),
            holds_place=holds_place,
            idle=idle,
            held_back=held_back,
        )

    @staticmethod
    def _too_old(tuning: NodeTuning, one: Accepted | None) -> list[str]:
        """Tunables of the profile that the node's agent does not know; none while it has not said what it knows."""
        known = tuning.status.node.tunables
        return sorted(set(one.profile.spec.tune) - set(known)) if one and known else []

    def _waiting(self, group: list[NodeTuning], policy: Policy) -> dict[str, str]:
        """Nodes that may not lose their profile yet; more than a quarter at once waits for people."""
        losing = {
            tuning.metadata.name: tuning.spec.revision
            for tuning in group
            if tuning.spec.profile and tuning.spec.desired != "Baseline"
        }
        governed = sum(1 for tuning in self.cluster.tunings.all() if tuning.spec.profile)
        waiting = needs_approval(losing, governed, policy.spec.approve)
        with self._boundary("policy"):
            self.cluster.policy_status({"awaitingApproval": sorted(set(waiting.values()))}, [])
        return waiting

    def _report(self, name: str, answer: Accepted | tuple[str, ...], step: Step, states: list[NodeState]) -> None:
        one = self.assigned.accepted(name)
        selection = self.assigned.selections[name]
        mine = {state.name for state in states}
        old = [state.name for state in states if self._is_too_old(state.name, one)]
        refused = {
            key.removeprefix("node/"): why for key, why in self.refused.items() if key.removeprefix("node/") in mine
        }
        change = {"nodes": step.counts, **({"revision": one.revision} if one else {})}
        conditions = [
            profile_report.acceptance(answer),
            profile_report.rolled_out(answer, step, states, selection),
            *profile_report.others(selection, old, refused),
        ]
        self.cluster.profile_status(name, change, conditions)

    def _is_too_old(self, node: str, one: Accepted | None) -> bool:
        tuning = self.cluster.tunings.get(node)
        return tuning is not None and bool(self._too_old(tuning, one))
