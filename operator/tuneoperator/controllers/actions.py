"""Carries out the decisions of `rollout.decide`: one patch per action, valid only for the version that was read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec
from tuneagent.contracts.kubernetes import Node, merge_patch
from tuneagent.contracts.kubernetes_writes import (
    Eviction,
    Named,
    NodePatch,
    NodePatchMeta,
    NodePatchSpec,
    Patch,
    Version,
    body,
)
from tuneagent.contracts.node_tuning import MESSAGE_LIMIT, Grant, NodeTuning, RolloutStatus

from tuneoperator.decide.ledger import Place
from tuneoperator.decide.rollout_model import GRANT_LIFETIME_S, Action
from tuneoperator.decide.state import CORDON_ANNOTATION, STAMP
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.cluster import Cluster

log = logging.getLogger("tuneoperator")


@dataclass
class Decided:
    """The objects of one node as they were when the decision was made, updated by our own writes since then.

    If another version is found, the API server refuses the write (409); the decision is then made again.
    """

    name: str
    tuning: NodeTuning | None
    node: Node | None


class Actions:
    """Performs actions. Raises ApiFailed; 409 means that the object has changed; it is then processed again."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float]) -> None:
        self.cluster = cluster
        self.clock = clock

    def perform(self, action: Action, profile: str, decided: Decided, room: Callable[[], int]) -> None:
        """Perform one action for one node; `room` returns how many places are free now."""
        self.cluster.check_leader()
        log.info(action.kind, extra={"fields": {"node": action.node, "phase": action.phase, "reason": action.reason}})
        if action.kind == "take":
            self._take(action.node, profile, room)
        elif action.kind == "free":
            self.free(action.node)
        elif action.kind == "cordon":
            self._cordon(decided)
        elif action.kind == "uncordon":
            self.uncordon(decided)
        elif action.kind == "evict":
            self._evict(action.node, action.disruption)
        elif decided.tuning is not None:
            decided.tuning = self._tuning(decided.tuning, action, profile)

    def _tuning(self, tuning: NodeTuning, action: Action, profile: str) -> NodeTuning:
        if action.kind in ("name", "baseline"):
            return self._name(tuning, action, profile)
        if action.kind == "phase":
            return self._rollout(tuning, phase=action.phase, since=self.clock(), reason=action.reason[:MESSAGE_LIMIT])
        if action.kind == "grant":
            return self._grant(tuning, action)
        if action.kind == "revert":
            return self._spec(tuning, revision=action.revision)
        # If the agent has taken the grant since, the object has changed and this patch is refused.
        return self._spec(tuning, grant=None)

    def _name(self, tuning: NodeTuning, action: Action, profile: str) -> NodeTuning:
        # Set the phase first: whoever finds it without the revision named continues from there.
        rollout, target = tuning.status.rollout, action.revision
        if (rollout.phase, rollout.target) != ("Applying", target):
            previous = tuning.spec.revision if tuning.spec.revision != target else rollout.previous
            begun = RolloutStatus("Applying", self.clock(), 0, action.reason[:MESSAGE_LIMIT], target, previous)
            tuning = self._rollout_status(tuning, begun)
        desired = "Baseline" if action.kind == "baseline" else "Profile"
        return self._spec(tuning, profile=profile, revision=target, desired=desired, grant=None)

    def _grant(self, tuning: NodeTuning, action: Action) -> NodeTuning:
        grant = Grant(
            digest=action.digest,
            disruption=action.disruption,
            lifetime_seconds=GRANT_LIFETIME_S,
            boot_id=tuning.status.node.boot_id,
            epoch=tuning.metadata.generation,
        )
        moved = self._spec(tuning, grant=grant)
        return self._rollout(moved, attempts=moved.status.rollout.attempts + 1)

    def _spec(self, tuning: NodeTuning, **change: object) -> NodeTuning:
        changed = merge_patch(tuning.spec, msgspec.structs.replace(tuning.spec, **change))
        return self._patch(tuning, "", Patch(spec=changed))

    def _rollout(self, tuning: NodeTuning, **change: object) -> NodeTuning:
        return self._rollout_status(tuning, msgspec.structs.replace(tuning.status.rollout, **change))

    def _rollout_status(self, tuning: NodeTuning, wanted: RolloutStatus) -> NodeTuning:
        changed = merge_patch(tuning.status.rollout, wanted)
        return self._patch(tuning, "status", Patch(status={"rollout": changed}))

    def _patch(self, tuning: NodeTuning, subresource: str, change: Patch) -> NodeTuning:
        name = tuning.metadata.name
        versioned = msgspec.structs.replace(change, metadata=Version(tuning.metadata.resource_version))
        try:
            return self.cluster.tunings.put(
                self.cluster.api.patch(self.cluster.path("nodetunings", name, subresource), body(versioned))
            )
        except ApiFailed as error:
            if error.status == 404:
                self.cluster.tunings.drop(name)
            raise

    def _take(self, node: str, profile: str, room: Callable[[], int]) -> None:
        places = self.cluster.places()
        if node not in places:
            if room() <= 0:
                raise ApiFailed(409, "no place is free")
            places[node] = Place(profile, self.clock())
        self.cluster.write_places(places)

    def free(self, node: str) -> None:
        """Give a node's place back. Call this when it has neither a grant nor our cordon."""
        places = self.cluster.places()
        places.pop(node, None)
        self.cluster.write_places(places)

    def _cordon(self, decided: Decided) -> None:
        node = decided.node
        if node is None or (node.spec.unschedulable and CORDON_ANNOTATION not in node.metadata.annotations):
            # Someone else's cordon is not ours to mark or to remove later.
            return
        stamp = datetime.fromtimestamp(self.clock(), timezone.utc).strftime(STAMP)
        decided.node = self._patch_node(node, {CORDON_ANNOTATION: stamp}, unschedulable=True)

    def uncordon(self, decided: Decided) -> None:
        """Remove our cordon together with our mark; a node without our mark is left alone."""
        node = decided.node
        if node is not None and CORDON_ANNOTATION in node.metadata.annotations:
            decided.node = self._patch_node(node, {CORDON_ANNOTATION: None}, unschedulable=None)

    def _patch_node(self, node: Node, annotations: dict[str, str | None], *, unschedulable: bool | None) -> Node:
        meta = NodePatchMeta(annotations, node.metadata.resource_version)
        patch = NodePatch(meta, NodePatchSpec(unschedulable))
        return self.cluster.nodes.put(self.cluster.api.patch(f"/api/v1/nodes/{node.metadata.name}", body(patch)))

    def _evict(self, node: str, disruption: str) -> None:
        for pod in self.cluster.pods_in_the_way(node, disruption):
            meta = pod.metadata
            eviction = Eviction(metadata=Named(meta.name, meta.namespace))
            path = f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}/eviction"
            try:
                self.cluster.api.call("POST", path, body(eviction))
            except ApiFailed as error:
                # 429: a PodDisruptionBudget refuses the eviction for now; 404: the pod is already gone.
                if error.status not in (404, 429):
                    raise
