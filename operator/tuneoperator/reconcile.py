"""One name in, patches out. Level-based: everything is decided from the objects as they are now."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from tuneagent.errors import UsageError
from tuneagent.tuning_profile import API_VERSION, KIND, Profile, Rollout, builtin, parse, resolve, unknown_names

from tuneoperator.actions import Actions
from tuneoperator.assign import Candidate, assign
from tuneoperator.cluster import Cluster
from tuneoperator.kube import ApiFailed
from tuneoperator.records import Node, NodeTuning, TuningProfile
from tuneoperator.rollout import APPLY_LIMIT_S, Limits, NodeState, Step, decide, resolve_limit
from tuneoperator.state import limits_of, needs_approval, node_state
from tuneoperator.workqueue import WorkQueue

log = logging.getLogger("tuneoperator")
ALL = "*"
# The group of nodes that no profile governs any more.
NOBODY = ""


@dataclass(frozen=True)
class Accepted:
    """A profile that may be rolled out, resolved, and the name of its revision."""

    profile: Profile
    rollout: Rollout
    revision: str


class Reconciler:
    """Decides for one name at a time; `*` assigns nodes to profiles, any other name is a profile's roll-out."""

    def __init__(
        self,
        cluster: Cluster,
        queue: WorkQueue,
        schema: dict[str, Any],
        clock: Callable[[], float] = time.time,
        apply_limit_s: float = APPLY_LIMIT_S,
    ) -> None:
        self.cluster = cluster
        self.queue = queue
        self.schema = schema
        self.clock = clock
        self.apply_limit_s = apply_limit_s
        self.actions = Actions(cluster, clock)
        self.accepted: dict[str, Accepted] = {}
        self.assigned: dict[str, str | None] = {}
        self.conflicts: dict[str, tuple[str, ...]] = {}
        self.broken: set[str] = set()

    def reconcile(self, name: str) -> None:
        """Look at one name. Does nothing while any copy of the cluster is incomplete: absence says nothing."""
        if not self.cluster.synced:
            self.queue.add(name, 1.0)
            return
        if name == ALL:
            self._assign_all()
            for profile in [*self.accepted, *self.broken, NOBODY]:
                self.queue.add(f"profile/{profile}")
        else:
            self._roll_out(name.removeprefix("profile/"))

    def _assign_all(self) -> None:
        self.cluster.ensure_policy()
        self.accepted = {}
        standing = [one for one in self.cluster.profiles.all() if one.metadata.deletion_timestamp is None]
        for profile in standing:
            self._accept(profile)
        candidates = [
            Candidate(name, one.profile.spec.nodeSelector, one.profile.spec.priority)
            for name, one in self.accepted.items()
        ]
        # A profile that exists but is not valid now keeps its nodes as they are: a typo is no instruction.
        self.broken = {one.metadata.name for one in standing} - set(self.accepted)
        self.assigned, self.conflicts = {}, {}
        nodes = self.cluster.nodes.all()
        self.actions.free_vanished({node.metadata.name for node in nodes})
        for node in nodes:
            tuning = self.cluster.tunings.get(node.metadata.name)
            current = tuning.spec.profile if tuning else None
            if current in self.broken:
                self.assigned[node.metadata.name] = current
                continue
            result = assign(node.metadata.labels, candidates, current)
            self.assigned[node.metadata.name] = result.profile
            if result.conflict:
                self.conflicts[node.metadata.name] = result.conflict
            if result.profile is not None and tuning is None:
                self._create_tuning(node)

    def _accept(self, found: TuningProfile) -> None:
        name = found.metadata.name
        try:
            profile = self._parsed(found)
            resolved = resolve(profile, self._lookup)
            faults = unknown_names(resolved.spec.tune, self.schema)
            if faults:
                raise UsageError("; ".join(faults))
        except UsageError as error:
            self.cluster.condition(found, "Accepted", "False", "Invalid", str(error))
            return
        self.cluster.condition(found, "Accepted", "True", "Valid", "")
        self.accepted[name] = Accepted(resolved, profile.spec.rollout, f"{name}-{resolved.revision}")

    def _parsed(self, found: TuningProfile) -> Profile:
        document = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": found.metadata.name},
            "spec": found.spec,
        }
        return parse(document, f"TuningProfile {found.metadata.name}")

    def _lookup(self, name: str) -> Profile | None:
        found = self.cluster.profiles.get(name)
        return self._parsed(found) if found is not None else builtin(name)

    def _create_tuning(self, node: Node) -> None:
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

    def _group(self, name: str) -> list[NodeTuning]:
        """NodeTunings of a profile's nodes; of nobody's, those that still hold something."""
        found = []
        for tuning in self.cluster.tunings.all():
            node = tuning.metadata.name
            if node not in self.assigned or (self.assigned[node] or NOBODY) != name:
                continue
            if name == NOBODY and not (
                tuning.spec.profile or tuning.status.rollout.phase not in ("Waiting", "Baseline")
            ):
                continue
            found.append(tuning)
        return found

    def _roll_out(self, name: str) -> None:
        one = self.accepted.get(name)
        if one is None and name != NOBODY and name not in self.broken:
            return
        group = self._group(name)
        waiting = self._waiting(group) if name == NOBODY else {}
        if not group and one is None:
            return
        target = one.revision if one else ""
        limits = limits_of(one.rollout, len(group)) if one else self._limits_of_removal()
        limits = replace(limits, apply_limit_s=self.apply_limit_s)
        if one is not None and group:
            self.cluster.ensure_revision(one.profile, one.revision)
        policy = self.cluster.policy()
        holders = {holder.node for holder in policy.status.holders} if policy else set()
        ready = self.cluster.ready_agents()
        states = [
            self._state(
                tuning,
                # What is under way for a profile that is broken now is brought to its end; nothing new begins.
                tuning.status.rollout.target if name in self.broken else target,
                one,
                agent_ready=tuning.metadata.name in ready,
                holds_place=tuning.metadata.name in holders,
                held_back=tuning.metadata.name in waiting,
            )
            for tuning in group
        ]
        old = [tuning.metadata.name for tuning in group if self._too_old(tuning, one)]
        total = len(self.cluster.nodes.all())
        free = resolve_limit(policy.spec.max_unavailable, total) - len(holders) if policy else 0
        paused = policy is None or policy.spec.pause != "none" or name in self.broken
        step = decide(states, limits, places_free=free, now=self.clock(), paused=paused)
        for action in step.actions:
            self.actions.perform(action, name, target)
        if one is not None:
            self._report(name, one, step, old)
        if step.next_check_s is not None:
            self.queue.add(f"profile/{name}", step.next_check_s)
        if any(state.phase in ("Pending", "Draining") for state in states):
            # Pods come and go without an event that we watch.
            self.queue.add(f"profile/{name}", self.cluster.poll_s)

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
        waits = tuning.status.rollout.phase in ("Pending", "Draining")
        mode = one.rollout.drain.mode if one else "whenIdle"
        pending = tuning.status.node.pending
        everything = mode == "evict" and pending is not None and pending.disruption == "reboot"
        return node_state(
            tuning,
            self.cluster.nodes.get(name),
            target,
            agent_ready=agent_ready,
            too_old=self._too_old(tuning, one),
            holds_place=holds_place,
            idle=not self.cluster.busy_pods(name, everything=everything) if waits else None,
            held_back=held_back,
        )

    @staticmethod
    def _too_old(tuning: NodeTuning, one: Accepted | None) -> list[str]:
        """Tunables of the profile that the node's agent does not know; none while it has not said what it knows."""
        known = tuning.status.node.tunables
        return sorted(set(one.profile.spec.tune) - set(known)) if one and known else []

    def _limits_of_removal(self) -> Limits:
        """Per cents of all nodes, since the group shrinks as nodes go; a node that is stuck stops no other."""
        total = len(self.cluster.nodes.all())
        return limits_of(Rollout(canary=0, soak_s=0, failureThreshold=total + 1), total)

    def _waiting(self, group: list[NodeTuning]) -> dict[str, str]:
        """Nodes that may not lose their profile yet; more than a quarter at once waits for people."""
        losing = {tuning.metadata.name: tuning.spec.revision for tuning in group if tuning.spec.desired != "Baseline"}
        governed = sum(1 for tuning in self.cluster.tunings.all() if tuning.spec.profile)
        waiting = needs_approval(losing, governed, self.cluster.policy())
        self.cluster.await_approval(sorted(set(waiting.values())))
        return waiting

    def _report(self, name: str, one: Accepted, step: Step, old: list[str]) -> None:
        found = self.cluster.profiles.get(name)
        if found is None:
            return
        mine = {node for node, profile in self.assigned.items() if profile == name}
        conflicts = sorted(node for node in self.conflicts if node in mine)
        if step.halted:
            status, reason, message = "False", step.halted.partition(":")[0], step.halted
        elif step.finished:
            status, reason, message = "True", "Done", ""
        else:
            status, reason, message = "False", "InProgress", ""
        self.cluster.profile_status(found, {"revision": one.revision, "nodes": step.counts})
        self.cluster.condition(found, "RolledOut", status, reason, message)
        text = f"agents that do not know all its tunables: {', '.join(old[:5])}, {len(old)} in all" if old else ""
        self.cluster.condition(found, "AgentTooOld", "True" if old else "False", "Withheld" if old else "None", text)
        text = f"several profiles of equal priority select {', '.join(conflicts[:5])}" if conflicts else ""
        self.cluster.condition(
            found, "Conflict", "True" if conflicts else "False", "Tie" if conflicts else "None", text
        )


def profile_document(profile: Profile) -> dict[str, Any]:
    """What a ControllerRevision holds: the resolved profile as a document that `parse` takes."""
    spec = {"tune": profile.spec.tune, "accept": profile.spec.accept, "drift": profile.spec.drift}
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": profile.name}, "spec": spec}
    plain: dict[str, Any] = json.loads(msgspec.json.encode(document))
    return plain
