"""Carries out what `rollout.decide` says: one action, one patch bound to the version that was looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from tuneoperator.cluster import Cluster
from tuneoperator.kube import ApiFailed
from tuneoperator.ledger import Place
from tuneoperator.records import NodeTuning
from tuneoperator.rollout_model import GRANT_LIFETIME_S, Action
from tuneoperator.state import CORDON_ANNOTATION, STAMP

log = logging.getLogger("tuneoperator")


class Actions:
    """Performs actions. Raises ApiFailed; 409 means that the object moved, and it is looked at again."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self.cluster = cluster
        self.clock = clock

    def perform(self, action: Action, profile: str, target: str, room: Callable[[], int]) -> None:
        """One action of one node; `room` is how many places are free now."""
        self.cluster.check_leader()
        log.info(action.kind, extra={"fields": {"node": action.node, "phase": action.phase, "reason": action.reason}})
        if action.kind == "take":
            self._take(action.node, profile, room)
        elif action.kind == "free":
            self.free(action.node)
        elif action.kind == "cordon":
            self._cordon(action.node)
        elif action.kind == "uncordon":
            self.uncordon(action.node)
        elif action.kind == "evict":
            self._evict(action.node, action.disruption)
        else:
            tuning = self.cluster.tunings.get(action.node)
            if tuning is not None:
                self._tuning(tuning, action, profile, target)

    def _tuning(self, tuning: NodeTuning, action: Action, profile: str, target: str) -> None:
        if action.kind in ("name", "baseline"):
            self._name(tuning, action, profile, target)
        elif action.kind == "phase":
            self._phase(tuning, action, target)
        elif action.kind == "grant":
            self._grant(tuning, action)
        else:
            # Bound to the version that was looked at: a grant that the agent takes meanwhile stays.
            self._spec(tuning, {"grant": None})

    def _name(self, tuning: NodeTuning, action: Action, profile: str, target: str) -> None:
        # The phase first: who finds it without the revision named goes on from there.
        moved, rollout = tuning, tuning.status.rollout
        if (rollout.phase, rollout.target) != ("Applying", target):
            begun = {
                "phase": "Applying",
                "since": self.clock(),
                "attempts": 0,
                "reason": action.reason,
                "target": target,
                "previous": tuning.spec.revision if tuning.spec.revision != target else rollout.previous,
            }
            moved = self._rollout(tuning, begun)
        desired = "Baseline" if action.kind == "baseline" else "Profile"
        self._spec(moved, {"profile": profile, "revision": target, "desired": desired, "grant": None})

    def _phase(self, tuning: NodeTuning, action: Action, target: str) -> None:
        change: dict[str, Any] = {"phase": action.phase, "since": self.clock(), "reason": action.reason[:1000]}
        previous = tuning.status.rollout.previous
        if action.phase == "Failed" and previous and tuning.spec.revision == target:
            # Back to what it had; its agent repairs drift against that again.
            tuning = self._spec(tuning, {"revision": previous})
        self._rollout(tuning, change)

    def _grant(self, tuning: NodeTuning, action: Action) -> None:
        grant = {
            "digest": action.digest,
            "disruption": action.disruption,
            "lifetime_s": GRANT_LIFETIME_S,
            "bootID": tuning.status.node.boot_id,
            "epoch": tuning.metadata.generation,
        }
        moved = self._spec(tuning, {"grant": grant})
        self._rollout(moved, {"attempts": moved.status.rollout.attempts + 1})

    def _spec(self, tuning: NodeTuning, change: dict[str, Any]) -> NodeTuning:
        path = self.cluster.path("nodetunings", tuning.metadata.name)
        body = {"metadata": {"resourceVersion": tuning.metadata.resource_version}, "spec": change}
        return self.cluster.tunings.put(self.cluster.api.patch(path, body))

    def _rollout(self, tuning: NodeTuning, change: dict[str, Any]) -> NodeTuning:
        path = self.cluster.path("nodetunings", tuning.metadata.name, "status")
        body = {
            "metadata": {"resourceVersion": tuning.metadata.resource_version},
            "status": {"rollout": change},
        }
        return self.cluster.tunings.put(self.cluster.api.patch(path, body))

    def _take(self, node: str, profile: str, room: Callable[[], int]) -> None:
        places = self.cluster.places()
        if node not in places:
            if room() <= 0:
                raise ApiFailed(409, "no place is free")
            places[node] = Place(profile, self.clock())
        self.cluster.write_places(places)

    def free(self, node: str) -> None:
        """Give a node's place back. Call when it has neither grant nor cordon of ours."""
        places = self.cluster.places()
        places.pop(node, None)
        self.cluster.write_places(places)

    def _cordon(self, name: str) -> None:
        node = self.cluster.nodes.get(name)
        if node is None or (node.spec.unschedulable and CORDON_ANNOTATION not in node.metadata.annotations):
            # Someone else's cordon is not ours to mark, nor to take off later.
            return
        stamp = datetime.fromtimestamp(self.clock(), timezone.utc).strftime(STAMP)
        meta = {"annotations": {CORDON_ANNOTATION: stamp}, "resourceVersion": node.metadata.resource_version}
        body = {"metadata": meta, "spec": {"unschedulable": True}}
        self.cluster.nodes.put(self.cluster.api.patch(f"/api/v1/nodes/{name}", body))

    def uncordon(self, name: str) -> None:
        """Take our cordon off, and our mark with it; a node without our mark is left alone."""
        node = self.cluster.nodes.get(name)
        if node is not None and CORDON_ANNOTATION in node.metadata.annotations:
            body = {"metadata": {"annotations": {CORDON_ANNOTATION: None}}, "spec": {"unschedulable": None}}
            self.cluster.nodes.put(self.cluster.api.patch(f"/api/v1/nodes/{name}", body))

    def _evict(self, node: str, disruption: str) -> None:
        for pod in self.cluster.pods_in_the_way(node, disruption):
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
