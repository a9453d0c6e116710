"""The cluster as the operator sees it: copies of its objects, and the few writes that several places need."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from tuneagent.tuning_profile import Profile

from tuneoperator.kube import Api, ApiFailed
from tuneoperator.records import AgentPod, Node, NodeTuning, TuningPolicy, TuningProfile
from tuneoperator.state import NAMESPACE, holds_gpu, is_evictable
from tuneoperator.store import Store

GROUP = "/apis/tuneagent.dev/v1alpha1"
REVISIONS_KEPT = 10
REVISION_LIMIT_BYTES = 256 * 1024
PROFILE_LABEL = "tuneagent.dev/profile"


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
        self.stores: tuple[Store[Any], ...] = (self.nodes, self.tunings, self.profiles, self.policies, self.pods)

    @property
    def synced(self) -> bool:
        """Whether every copy is whole and being kept."""
        return all(store.synced for store in self.stores)

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
        return self.policies.get("default")

    def ready_agents(self) -> set[str]:
        """Names of the nodes whose agent's pod is ready."""
        return {pod.spec.node_name for pod in self.pods.all() if pod.ready}

    def ensure_policy(self) -> None:
        """Make TuningPolicy/default where there is none."""
        if self.policy() is not None:
            return
        self.check_leader()
        body = {
            "apiVersion": "tuneagent.dev/v1alpha1",
            "kind": "TuningPolicy",
            "metadata": {"name": "default"},
            "spec": {"maxUnavailable": 1, "pause": "none"},
        }
        try:
            self.policies.put(self.api.call("POST", self.path("tuningpolicies"), body))
        except ApiFailed as error:
            if error.status != 409:
                raise

    def busy_pods(self, node: str, *, everything: bool = False) -> list[dict[str, Any]]:
        """Pods on a node that hold a GPU; with `everything` all that can be evicted and still run."""
        raw = self.api.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
        pods: list[dict[str, Any]] = json.loads(raw)["items"]
        chosen = []
        for pod in pods:
            over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if holds_gpu(pod) or (everything and is_evictable(pod) and not over):
                chosen.append(pod)
        return chosen

    def ensure_revision(self, profile: Profile, name: str) -> None:
        """Store a profile's content once, immutable. Raises ApiFailed where it is too large."""
        from tuneoperator.reconcile import profile_document

        folder = f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions"
        try:
            self.api.call("GET", f"{folder}/{name}")
            return
        except ApiFailed as error:
            if error.status != 404:
                raise
        self.check_leader()
        data = profile_document(profile)
        size = len(json.dumps(data))
        if size > REVISION_LIMIT_BYTES:
            raise ApiFailed(413, f"profile {profile.name} has {size} bytes, at most {REVISION_LIMIT_BYTES} fit")
        body = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": name, "labels": {PROFILE_LABEL: profile.name}},
            "revision": int(datetime.now(timezone.utc).timestamp()),
            "data": data,
        }
        try:
            self.api.call("POST", folder, body)
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

    def profile_status(self, profile: TuningProfile, change: dict[str, Any]) -> None:
        """Patch a profile's status where it differs."""
        change = {"observedGeneration": profile.metadata.generation, **change}
        if all(profile.status.get(key) == value for key, value in change.items()):
            return
        self.check_leader()
        path = self.path("tuningprofiles", profile.metadata.name, "status")
        self.profiles.put(self.api.patch(path, {"status": change}))

    def condition(self, profile: TuningProfile, kind: str, status: str, reason: str, message: str) -> None:
        """Set a condition where it differs."""
        profile = self.profiles.get(profile.metadata.name) or profile
        conditions = list(profile.status.get("conditions") or [])
        present: dict[str, Any] = next((one for one in conditions if one.get("type") == kind), {})
        wanted = {"type": kind, "status": status, "reason": reason, "message": message[:1000]}
        if all(present.get(key, "") == value for key, value in wanted.items()):
            return
        stamp = present.get("lastTransitionTime")
        if present.get("status") != status or not stamp:
            stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        others = [one for one in conditions if one.get("type") != kind]
        full = {**wanted, "lastTransitionTime": stamp, "observedGeneration": profile.metadata.generation}
        self.profile_status(profile, {"conditions": [*others, full]})

    def await_approval(self, tokens: list[str]) -> None:
        """Say in the policy's status what waits for people."""
        policy = self.policy()
        if policy is None or policy.status.awaiting_approval == tokens:
            return
        self.check_leader()
        path = self.path("tuningpolicies", "default", "status")
        self.policies.put(self.api.patch(path, {"status": {"awaitingApproval": tokens}}))
