"""An API server in memory for the operator: objects, resourceVersions, conflicts, merge patches, lists; no watch.

Stores list again when told to; `before` is called before each request and may change objects or refuse the request.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from tuneoperator.controllers.reconcile import ALL, Reconciler, TimeLimits
from tuneoperator.controllers.workqueue import WorkQueue
from tuneoperator.decide.accept import Acceptance
from tuneoperator.kube.client import ApiFailed
from tuneoperator.kube.cluster import Cluster

GROUP = "/apis/tuneagent.dev/v1alpha1"
NAMESPACE = "/api/v1/namespaces/tuneagent-system"
LEDGER = f"{NAMESPACE}/configmaps/tuneagent-ledger"
POLICY = f"{GROUP}/tuningpolicies/default"


# Last parts of paths that are lists; any other path is that of an object.
KINDS = (
    "nodes", "pods", "configmaps", "controllerrevisions", "leases", "nodetunings", "tuningprofiles", "tuningpolicies",
)  # fmt: skip


class MemoryApi:
    """The objects by path."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.not_served: set[str] = set()
        self.writes: list[tuple[str, str, Any]] = []
        self.before: Callable[[str, str], None] = lambda method, path: None

    def put(self, path: str, found: dict[str, Any]) -> None:
        """Store an object as it is."""
        self.version += 1
        meta = {"generation": 1, "uid": path, **found["metadata"], "resourceVersion": str(self.version)}
        self.objects[path] = {**copy.deepcopy(found), "metadata": meta}

    def call(self, method: str, path: str, body: Any = None, *_: Any) -> bytes:
        """One request."""
        self.before(method, path)
        bare = path.partition("?")[0]
        if method == "GET":
            return json.dumps(self._get(bare, path)).encode()
        self.writes.append((method, bare, body))
        if method == "POST":
            return json.dumps(self._post(bare, body)).encode()
        if method == "PUT":
            return json.dumps(self._replace(bare, body)).encode()
        return json.dumps(self._patch(bare.removesuffix("/status"), body)).encode()

    def _replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found = self.objects[path]
        if body["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
            raise ApiFailed(409, "the object has been modified")
        self.put(path, body)
        return self.objects[path]

    def patch(self, path: str, body: Any) -> bytes:
        """A merge patch."""
        return self.call("PATCH", path, body)

    def _get(self, bare: str, path: str) -> dict[str, Any]:
        if bare in self.objects:
            return self.objects[bare]
        kind = bare.rpartition("/")[2]
        if kind in self.not_served or kind not in KINDS:
            raise ApiFailed(404, "not found")
        node = path.rpartition("spec.nodeName%3D")[2] if "spec.nodeName" in path else None
        items = [
            found
            for name, found in sorted(self.objects.items())
            if (
                name.rpartition("/")[0] == bare
                if node is None
                else "/pods/" in name and found["spec"].get("nodeName") == node
            )
        ]
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def _post(self, bare: str, body: dict[str, Any]) -> dict[str, Any]:
        if bare.endswith("/eviction"):
            return {}
        path = f"{bare}/{body['metadata']['name']}"
        if path in self.objects:
            raise ApiFailed(409, "exists")
        self.put(path, body)
        return self.objects[path]

    def _patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found = self.objects.get(path)
        if found is None:
            raise ApiFailed(404, "not found")
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, found["metadata"]["resourceVersion"]):
            raise ApiFailed(409, "the object has been modified")
        after = copy.deepcopy(found)
        merge(
            after, {**body, "metadata": {k: v for k, v in body.get("metadata", {}).items() if k != "resourceVersion"}}
        )
        if after != found:
            self.version += 1
            after["metadata"]["resourceVersion"] = str(self.version)
            after["metadata"]["generation"] += after.get("spec") != found.get("spec")
            self.objects[path] = after
        return self.objects[path]


def merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    """A JSON merge patch."""
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            merge(target[key], value)
        else:
            target[key] = value


class World:
    """Nodes with their agents' pods, one profile `p` that needs a reboot, and an operator for them."""

    def __init__(self, *names: str, **rollout: Any) -> None:
        self.api = MemoryApi()
        self.now = 1_800_000_000.0
        self.names = names
        for name in names:
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            node = {
                "metadata": {"name": name, "labels": {"a": "b"}},
                "spec": {},
                "status": {**ready, "nodeInfo": {"bootID": "b0"}},
            }
            self.api.put(f"/api/v1/nodes/{name}", node)
            owner = [{"kind": "DaemonSet", "name": "x"}]
            meta = {"name": f"agent-{name}", "namespace": "tuneagent-system", "ownerReferences": owner}
            self.api.put(
                f"{NAMESPACE}/pods/agent-{name}", {"metadata": meta, "spec": {"nodeName": name}, "status": ready}
            )
        self.rollout = {"canary": 0, "soakSeconds": 0, "maxParallelLive": 10, "maxUnhealthy": "100%", **rollout}
        self.profile("p")
        self.start()

    def start(self) -> None:
        """Start an operator that knows nothing yet."""
        api: Any = self.api
        self.cluster = Cluster(api, lambda: None)
        self.reconciler = Reconciler(self.cluster, WorkQueue(), Acceptance(), lambda: self.now, TimeLimits())

    def profile(self, name: str, value: int = 10, **spec: Any) -> None:
        """Make or change a profile."""
        path = f"{GROUP}/tuningprofiles/{name}"
        before = self.api.objects.get(path, {"metadata": {"generation": 0}})
        chosen = {
            "nodeSelector": {"matchLabels": {"a": "b"}},
            "tune": {"sysctl": {"vm.swappiness": value}},
            "rollout": self.rollout,
        }
        meta = {"name": name, "generation": before["metadata"]["generation"] + 1}
        self.api.put(path, {"metadata": meta, "spec": {**chosen, **spec}, "status": before.get("status", {})})

    def sync(self) -> None:
        """Refresh every copy."""
        for store in self.cluster.stores:
            try:
                store._list()
            except ApiFailed as error:
                store.synced, store.is_served = False, error.status != 404

    def step(self, count: int = 1) -> None:
        """Run passes of the operator, a second apart."""
        for _ in range(count):
            self.now += 1
            self.sync()
            self.reconciler.reconcile(ALL)
            for name in [*self.reconciler.assigned.answers, ""]:
                self.reconciler.reconcile(f"profile/{name}")

    def tuning(self, name: str) -> dict[str, Any]:
        return self.api.objects[f"{GROUP}/nodetunings/{name}"]

    def node(self, name: str) -> dict[str, Any]:
        return self.api.objects[f"/api/v1/nodes/{name}"]

    def says(self, name: str, **status: Any) -> None:
        """The node's agent reports."""
        found = self.tuning(name)
        told = {
            "observedGeneration": found["metadata"]["generation"], "bootID": "b0", "notAsWanted": 0, "error": "",
            "revision": found["spec"].get("revision", ""), "baseline": False, **status,
        }  # fmt: skip
        self.api.patch(f"{GROUP}/nodetunings/{name}/status", {"status": {"node": told}})

    def proposes(self, name: str, digest: str = "d1", disruption: str = "reboot") -> None:
        self.says(name, proposal={"digest": digest, "disruption": disruption, "changes": 1})

    def takes(self, name: str, boot: str = "b0") -> None:
        grant = self.tuning(name)["spec"]["grant"]
        taken = {"digest": grant["digest"], "bootID": boot, "epoch": grant["epoch"]}
        self.api.patch(f"{GROUP}/nodetunings/{name}/status", {"status": {"node": {"taken": taken}}})

    def phase(self, name: str) -> str:
        found = self.tuning(name).get("status", {}).get("rollout", {}).get("phase", "Waiting")
        return str(found)

    def places(self) -> set[str]:
        found = self.api.objects.get(LEDGER)
        return set(json.loads(found["data"]["places"])) if found else set()

    def holds(self, name: str) -> tuple[bool, bool, bool]:
        """Whether a node has a grant, our cordon, and a place."""
        cordon = "tuneagent.dev/cordoned" in self.node(name)["metadata"].get("annotations", {})
        return bool(self.tuning(name)["spec"].get("grant")), cordon, name in self.places()

    def condition(self, profile: str, kind: str = "RolledOut") -> dict[str, Any]:
        conditions = self.api.objects[f"{GROUP}/tuningprofiles/{profile}"]["status"]["conditions"]
        return next(one for one in conditions if one["type"] == kind)

    def pod(self, node: str, name: str = "job") -> str:
        """Put someone's pod on a node; returns its path."""
        path = f"/api/v1/namespaces/default/pods/{name}-{node}"
        meta = {"name": f"{name}-{node}", "namespace": "default"}
        self.api.put(path, {"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": "Running"}})
        return path

    def granted(self, name: str, disruption: str = "reboot") -> None:
        """Take a node to the point where its agent has a grant."""
        self.step(2)
        self.proposes(name, disruption=disruption)
        self.step(5)
        assert self.phase(name) == "Granted" and self.holds(name) == (True, True, True), self.tuning(name)
