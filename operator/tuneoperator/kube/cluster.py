"""The cluster as the operator sees it: copies of its objects, and the few writes that several places need."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import msgspec
from tuneagent.contracts.kubernetes import AgentPod, ConfigMap, Node, WorkloadPod, WorkloadPods, merge_patch
from tuneagent.contracts.kubernetes_writes import ConfigMapPatch, Named, NewConfigMap, NewRevision, Version, body
from tuneagent.contracts.node_tuning import NodeTuning
from tuneagent.contracts.object_meta import Condition, StampedCondition
from tuneagent.contracts.tuning_policy import PolicyStatus, TuningPolicy
from tuneagent.contracts.tuning_profile import ProfileStatus, TuningProfile
from tuneagent.profile_files.document import Profile

from tuneoperator.decide import ledger
from tuneoperator.decide.ledger import Place
from tuneoperator.decide.revision import profile_document
from tuneoperator.decide.state import NAMESPACE, STAMP, stands_in_the_way
from tuneoperator.kube.client import Api, ApiFailed
from tuneoperator.kube.store import Store

GROUP = "/apis/tuneagent.dev/v1alpha1"
REVISIONS_KEPT = 10
PROFILE_LABEL = "tuneagent.dev/profile"
MESSAGE_LIMIT = 4096


class NotLeader(Exception):
    """Another operator leads: nothing may be written."""


class Cluster:
    """Stores and writes."""

    def __init__(
        self,
        api: Api,
        changed: Callable[[], None],
        is_leader: Callable[[], bool] = lambda: True,
        poll_s: float = 5.0,
    ) -> None:
        self.api = api
        self._is_leader = is_leader
        self.poll_s = poll_s
        self.nodes: Store[Node] = Store(api, "/api/v1/nodes", Node, changed)
        self.tunings: Store[NodeTuning] = Store(api, f"{GROUP}/nodetunings", NodeTuning, changed)
        self.profiles: Store[TuningProfile] = Store(api, f"{GROUP}/tuningprofiles", TuningProfile, changed)
        self.policies: Store[TuningPolicy] = Store(api, f"{GROUP}/tuningpolicies", TuningPolicy, changed)
        self.pods: Store[AgentPod] = Store(
            api, f"/api/v1/namespaces/{NAMESPACE}/pods", AgentPod, changed,
            {"labelSelector": "app=tuneagent-agent"},
        )  # fmt: skip
        self.ledgers: Store[ConfigMap] = Store(
            api, f"/api/v1/namespaces/{NAMESPACE}/configmaps", ConfigMap, changed,
            {"fieldSelector": f"metadata.name={ledger.NAME}"},
        )  # fmt: skip
        # Kinds of Kubernetes itself, and our own kinds, which are gone if someone deleted the CRDs.
        self.basic: tuple[Store[Any], ...] = (self.nodes, self.pods, self.ledgers)
        self.custom: tuple[Store[Any], ...] = (self.tunings, self.profiles, self.policies)

    @property
    def stores(self) -> tuple[Store[Any], ...]:
        """Every copy that is kept."""
        return self.basic + self.custom

    @property
    def synced(self) -> bool:
        """Whether every copy that decisions need is complete and current. Without the policy CRD there is no policy."""
        needed = (*self.basic, self.tunings, self.profiles)
        policies = self.policies.synced or not self.policies.is_served
        return policies and all(store.synced for store in needed)

    @property
    def can_wind_down(self) -> bool:
        """Whether one of our kinds is gone, and everything needed to give back what nodes hold is known."""
        tunings = self.tunings.synced or not self.tunings.is_served
        gone = not self.tunings.is_served or not self.profiles.is_served
        return gone and tunings and all(store.synced for store in self.basic)

    def check_leader(self) -> None:
        """Raise NotLeader before a write that only the leader may make."""
        if not self._is_leader():
            raise NotLeader

    @staticmethod
    def path(plural: str, name: str = "", subresource: str = "") -> str:
        """Path of an object of ours."""
        return "/".join(part for part in (f"{GROUP}/{plural}", name, subresource) if part)

    def policy(self) -> TuningPolicy | None:
        """The one policy."""
        return self.policies.get("default") if self.policies.is_served else None

    def places(self) -> dict[str, Place]:
        """Every place that is held now, by node."""
        # If a kind is gone, only our old copies are left, and they are no longer valid.
        tunings = self.tunings.all() if self.tunings.is_served else []
        return ledger.places(self.ledgers.get(ledger.NAME), self.nodes.all(), tunings)

    def ready_agents(self) -> set[str]:
        """Names of the nodes whose agent's pod is ready."""
        return {pod.spec.node_name for pod in self.pods.all() if pod.ready}

    def write_places(self, places: dict[str, Place]) -> None:
        """Compare-and-swap on the ledger: two leaders cannot both get the last place. Raises ApiFailed."""
        self.check_leader()
        found = self.ledgers.get(ledger.NAME)
        folder = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
        data = {ledger.KEY: ledger.encoded(places)}
        if found is None:
            new = NewConfigMap(metadata=Named(ledger.NAME), data=data)
            self.ledgers.put(self.api.call("POST", folder, body(new)))
            return
        patch = ConfigMapPatch(Version(found.metadata.resource_version), data)
        try:
            self.ledgers.put(self.api.patch(f"{folder}/{ledger.NAME}", body(patch)))
        except ApiFailed as error:
            if error.status == 404:
                self.ledgers.drop(ledger.NAME)
            raise

    def pods_in_the_way(self, node: str, disruption: str) -> list[WorkloadPod]:
        """Pods on a node that must be gone before a change of this class."""
        raw = self.api.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
        pods = msgspec.json.decode(raw, type=WorkloadPods).items
        return [pod for pod in pods if stands_in_the_way(pod, disruption)]

    def ensure_revision(self, profile: Profile, name: str) -> None:
        """Store a profile's content once, immutable. Raises ApiFailed."""
        folder = f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions"
        try:
            self.api.call("GET", f"{folder}/{name}")
            return
        except ApiFailed as error:
            if error.status != 404:
                raise
        self.check_leader()
        revision = NewRevision(
            metadata=Named(name, labels={PROFILE_LABEL: profile.name}),
            revision=int(datetime.now(timezone.utc).timestamp()),
            data=profile_document(profile),
        )
        try:
            self.api.call("POST", folder, body(revision))
        except ApiFailed as error:
            if error.status != 409:
                raise
        self._drop_old_revisions(folder, profile.name)

    def _drop_old_revisions(self, folder: str, profile: str) -> None:
        raw = self.api.call("GET", f"{folder}?labelSelector={PROFILE_LABEL.replace('/', '%2F')}%3D{profile}")
        found = sorted(json.loads(raw)["items"], key=lambda one: -one["revision"])
        used: set[str] = set()
        for tuning in self.tunings.all():
            used |= {tuning.spec.revision, tuning.status.node.revision, tuning.status.rollout.previous}
        for one in found[REVISIONS_KEPT:]:
            if one["metadata"]["name"] not in used:
                self.api.call("DELETE", f"{folder}/{one['metadata']['name']}")

    def profile_status(self, name: str, status: ProfileStatus | None, conditions: list[Condition]) -> None:
        """Update a profile's status, with one patch if it differs.

        `status` holds the roll-out's fields; its conditions and generation are ignored. None leaves them as they are.
        """
        found = self.profiles.get(name)
        if found is None:
            return
        generation = found.metadata.generation
        merged = _stamped(found.status.conditions, generation, conditions)
        wanted = msgspec.structs.replace(status or found.status, observed_generation=generation, conditions=merged)
        if wanted != found.status:
            self.check_leader()
            body = {"status": merge_patch(found.status, wanted)}
            self.profiles.put(self.api.patch(self.path("tuningprofiles", name, "status"), body))

    def policy_status(self, awaiting_approval: list[str] | None, conditions: list[Condition]) -> None:
        """The same for the policy; without a policy there is no status to update."""
        found = self.policy()
        if found is None:
            return
        generation = found.metadata.generation
        waiting = found.status.awaiting_approval if awaiting_approval is None else tuple(awaiting_approval)
        merged = _stamped(found.status.conditions, generation, conditions)
        wanted = PolicyStatus(generation, waiting, merged)
        if wanted != found.status:
            self.check_leader()
            body = {"status": merge_patch(found.status, wanted)}
            self.policies.put(self.api.patch(self.path("tuningpolicies", "default", "status"), body))


def _stamped(
    present: tuple[StampedCondition, ...], generation: int, conditions: list[Condition]
) -> tuple[StampedCondition, ...]:
    """Merge conditions into those present, for this generation. The time is that of the last change of status."""
    merged = {one.type: one for one in present}
    for one in conditions:
        before = merged.get(one.type)
        stamp = before.last_transition_time if before is not None and before.status == one.status else None
        merged[one.type] = StampedCondition(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=one.message[:MESSAGE_LIMIT],
            last_transition_time=stamp or datetime.now(timezone.utc).strftime(STAMP),
            observed_generation=generation,
        )
    return tuple(merged[kind] for kind in sorted(merged))
