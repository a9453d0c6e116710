"""Carries out what `rollout.decide` says: one action, one patch bound to the version that was looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from tuneoperator.cluster import Cluster
from tuneoperator.kube import ApiFailed
from tuneoperator.records import Holder, NodeTuning
from tuneoperator.rollout import GRANT_LIFETIME_S, Action, resolve_limit
from tuneoperator.state import CORDON_ANNOTATION

log = logging.getLogger("tuneoperator")


class Actions:
    """Performs actions. Raises ApiFailed; 409 means that the object moved, and it is looked at again."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self.cluster = cluster
        self.clock = clock

    def perform(self, action: Action, profile: str, target: str) -> None:
        """One action of one node."""
        self.cluster.check_leader()
        tuning = self.cluster.tunings.get(action.node)
        if tuning is None:
            return
        log.info(action.kind, extra={"fields": {"node": action.node, "phase": action.phase, "reason": action.reason}})
        if action.kind in ("name", "baseline"):
            self._name(tuning, action, profile, target)
        elif action.kind == "phase":
            self._phase(tuning, action, target)
        elif action.kind == "take":
            self._ledger(action.node, profile, take=True)
        elif action.kind == "free":
            self._ledger(action.node, profile, take=False)
        elif action.kind == "cordon":
            self._cordon(tuning)
        elif action.kind == "uncordon":
            self._uncordon(tuning)
        elif action.kind == "evict":
            self._evict(action.node, everything=action.disruption == "reboot")
        elif action.kind == "grant":
            grant = {"digest": action.digest, "disruption": action.disruption, "lifetime_s": GRANT_LIFETIME_S}
            self._spec(tuning, {"grant": grant})
            again = self.cluster.tunings.get(action.node) or tuning
            self._rollout(again, {"attempts": again.status.rollout.attempts + 1, "bootId": again.status.node.boot_id})
        elif action.kind == "ungrant":
            self._spec(tuning, {"grant": None})

    def _name(self, tuning: NodeTuning, action: Action, profile: str, target: str) -> None:
        # The phase first: if we die before the revision is named, the phase's time limit names it again.
        before = tuning.spec.revision if tuning.spec.revision != target else tuning.status.rollout.previous
        rollout = {
            "phase": "Applying",
            "since": self.clock(),
            "attempts": 0,
            "reason": action.reason,
            "target": target,
            "previous": before,
        }
        self._rollout(tuning, rollout)
        moved = self.cluster.tunings.get(action.node) or tuning
        desired = "Baseline" if action.kind == "baseline" else "Profile"
        self._spec(moved, {"profile": profile, "revision": target, "desired": desired, "grant": None})

    def _phase(self, tuning: NodeTuning, action: Action, target: str) -> None:
        change: dict[str, Any] = {"phase": action.phase, "since": self.clock(), "reason": action.reason[:1000]}
        previous = tuning.status.rollout.previous
        if action.phase == "Failed" and previous and tuning.spec.revision == target:
            # Back to what it had; its agent repairs drift against that again.
            self._spec(tuning, {"revision": previous})
            tuning = self.cluster.tunings.get(action.node) or tuning
        self._rollout(tuning, change)

    def _spec(self, tuning: NodeTuning, change: dict[str, Any]) -> None:
        path = self.cluster.path("nodetunings", tuning.metadata.name)
        body = {"metadata": {"resourceVersion": tuning.metadata.resource_version}, "spec": change}
        self.cluster.tunings.put(self.cluster.api.patch(path, body))

    def _rollout(self, tuning: NodeTuning, change: dict[str, Any]) -> None:
        path = self.cluster.path("nodetunings", tuning.metadata.name, "status")
        body = {
            "metadata": {"resourceVersion": tuning.metadata.resource_version},
            "status": {"rollout": change},
        }
        self.cluster.tunings.put(self.cluster.api.patch(path, body))

    def _ledger(self, node: str, profile: str, *, take: bool) -> None:
        """Compare-and-swap on the policy's status: two leaders cannot both get the last place."""
        policy = self.cluster.policy()
        if policy is None:
            raise ApiFailed(404, "TuningPolicy/default is missing")
        holders = [holder for holder in policy.status.holders if holder.node != node]
        if take:
            limit = resolve_limit(policy.spec.max_unavailable, len(self.cluster.nodes.all()))
            if len(holders) >= limit:
                raise ApiFailed(409, f"the ledger is full: {len(holders)} of {limit}")
            holders.append(Holder(node, profile, self.clock()))
        body = {
            "metadata": {"resourceVersion": policy.metadata.resource_version},
            "status": {"holders": msgspec.to_builtins(holders)},
        }
        path = self.cluster.path("tuningpolicies", "default", "status")
        self.cluster.policies.put(self.cluster.api.patch(path, body))

    def _cordon(self, tuning: NodeTuning) -> None:
        node = self.cluster.nodes.get(tuning.metadata.name)
        if node is None or (node.spec.unschedulable and CORDON_ANNOTATION not in node.metadata.annotations):
            # Someone else's cordon is not ours to mark, nor to take off later.
            return
        # Said before it is done: a crash in between leaves a mark without a cordon, never the reverse.
        if not tuning.status.rollout.cordoned_by_us:
            self._rollout(tuning, {"cordonedByUs": True})
        meta = {"annotations": {CORDON_ANNOTATION: "true"}, "resourceVersion": node.metadata.resource_version}
        body = {"metadata": meta, "spec": {"unschedulable": True}}
        self.cluster.nodes.put(self.cluster.api.patch(f"/api/v1/nodes/{tuning.metadata.name}", body))

    def _uncordon(self, tuning: NodeTuning) -> None:
        node = self.cluster.nodes.get(tuning.metadata.name)
        if node is not None and CORDON_ANNOTATION in node.metadata.annotations:
            body = {"metadata": {"annotations": {CORDON_ANNOTATION: None}}, "spec": {"unschedulable": None}}
            self.cluster.nodes.put(self.cluster.api.patch(f"/api/v1/nodes/{tuning.metadata.name}", body))
        self._rollout(tuning, {"cordonedByUs": False})

    def free_vanished(self, known: set[str]) -> None:
        """Give back places of nodes that no longer exist."""
        policy = self.cluster.policy()
        for holder in policy.status.holders if policy else ():
            if holder.node not in known:
                self.cluster.check_leader()
                log.warning("place of a vanished node", extra={"fields": {"node": holder.node}})
                self._ledger(holder.node, holder.profile, take=False)

    def _evict(self, node: str, *, everything: bool) -> None:
        for pod in self.cluster.busy_pods(node, everything=everything):
            meta = pod["metadata"]
            body = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            }
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
            try:
                self.cluster.api.call("POST", path, body)
            except ApiFailed as error:
                # 429: a PodDisruptionBudget says not now; 404: gone already.
                if error.status not in (404, 429):
                    raise
