"""Nodes whose agents are simulated: real objects, real bound tokens, the real protocol, no host behind them.

One asyncio process plays them all. Behaviours: `good`, `failing` (reports an error), `refusing` (will not do what is
named), `lying` (its plan moves after each grant), `dying` (stops answering once a revision is named), `hanging` (stops
answering once it has taken a grant), `wild` (proposes a class of change that does not exist).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane import API_PORT, ControlPlane
from tuneagent.node.api_client import ApiFailed, Credentials, KubeApi

TUNINGS = "/apis/tuneagent.dev/v1alpha1/nodetunings"
NAMESPACE = "tuneagent-system"
TUNABLES = ["sysctl", "kernelArguments", "mig", "transparentHugepages"]


def node_object(name: str, labels: Mapping[str, str], boot_id: str = "x") -> dict[str, Any]:
    """A Node that is Ready without a kubelet."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"taints": [{"key": "simulated", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "Played", "message": ""}],
            "nodeInfo": dict.fromkeys(("bootID", "machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"), "x") | {"bootID": boot_id},
        },
    }  # fmt: skip


def daemon_set(plane: ControlPlane) -> dict[str, Any]:
    """A DaemonSet that runs nowhere, to own the simulated pods: a reboot does not wait for those of a DaemonSet."""
    head = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "simulated", "namespace": NAMESPACE}}
    labels = {"app": "simulated"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"nodeSelector": {"nowhere": "true"}, "containers": [{"name": "agent", "image": "simulated"}]},
        },
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({**head, "spec": spec}))
    uid = plane.get("daemonset", "simulated", "-n", NAMESPACE)["metadata"]["uid"]
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "simulated", "uid": uid}


def pod_object(node: str, owner: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's pod on that node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"agent-{node}",
            "namespace": NAMESPACE,
            "labels": {"app": "tuneagent-agent"},
            "ownerReferences": [dict(owner)],
        },
        "spec": {
            "serviceAccountName": "tuneagent-agent",
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "agent", "image": "simulated"}],
        },
    }


def admin(plane: ControlPlane) -> KubeApi:
    """The API as an administrator uses it."""
    context = ssl.create_default_context(cafile=str(plane.pki / "ca.crt"))
    context.load_cert_chain(plane.pki / "admin.crt", plane.pki / "admin.key")
    return KubeApi(Credentials("127.0.0.1", API_PORT, context))


def simulated(plane: ControlPlane, name: str, labels: Mapping[str, str], behaviour: str = "good") -> SimulatedAgent:
    """A node and its agent."""
    boot_id = str(uuid.uuid4())
    return SimulatedAgent(name, KubeApi(make_node(plane, name, labels, boot_id)), admin(plane), behaviour, boot_id)


def make_node(plane: ControlPlane, name: str, labels: Mapping[str, str], boot_id: str = "x") -> Credentials:
    """Node, agent pod, and the token that the pod would have: it carries the node's name."""
    plane.kubectl("create", "-f", "-", stdin=json.dumps(node_object(name, labels, boot_id)))
    plane.kubectl("create", "-f", "-", stdin=json.dumps(pod_object(name, daemon_set(plane))))
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    pod = f"agent-{name}"
    plane.kubectl("patch", "pod", pod, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps(ready))
    token = plane.kubectl(
        "create", "token", "tuneagent-agent", "-n", NAMESPACE, "--duration=2h", "--bound-object-kind=Pod",
        f"--bound-object-name={pod}",
    ).strip()  # fmt: skip
    context = ssl.create_default_context(cafile=str(plane.pki / "ca.crt"))
    return Credentials("127.0.0.1", API_PORT, context, token=token)


@dataclass
class SimulatedAgent:
    """One node's agent."""

    name: str
    api: KubeApi
    kubelet: KubeApi
    behaviour: str = "good"
    boot_id: str = ""
    revision: str = ""
    baseline: bool = False
    pending: dict[str, Any] | None = None
    taken: dict[str, Any] | None = None
    error: str = ""
    refusal: str = ""
    dead: bool = False
    granted: list[str] = field(default_factory=list)
    applied_heavy: list[tuple[str, str]] = field(default_factory=list)
    ungranted: list[str] = field(default_factory=list)
    written: dict[str, Any] = field(default_factory=dict)
    writes: int = 0

    def step(self) -> None:
        """One look at the object, as the real agent takes it."""
        if self.dead:
            return
        wanted = self.api.get(f"{TUNINGS}/{self.name}")
        if wanted is None:
            return
        spec = wanted["spec"]
        if self.taken:
            self._work(self.taken)
        elif spec.get("desired") == "Baseline":
            self.revision, self.baseline, self.pending, self.error, self.refusal = "", True, None, "", ""
        elif spec.get("revision") and spec["revision"] != self.revision:
            self._follow(spec["revision"])
        elif self.pending and spec.get("grant"):
            self._take(wanted, spec["grant"])
            return
        if not self.dead:
            self._report(wanted)

    def _follow(self, revision: str) -> None:
        if self.behaviour == "dying":
            self.dead = True
            return
        found = self.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions/{revision}")
        if found is None:
            return
        if self.behaviour == "refusing":
            self.refusal = f"revision {revision}: needs more memory than this node has"
            return
        self.revision, self.baseline, self.error, self.refusal, self.pending = revision, False, "", "", None
        tune = found["data"]["spec"]["tune"]
        if self.behaviour == "failing":
            self.error = "key:vm.swappiness: EINVAL Invalid argument"
        elif "kernelArguments" in tune or "mig" in tune:
            disruption = "reboot" if "kernelArguments" in tune else "gpu"
            disruption = "x" if self.behaviour == "wild" else disruption
            self.pending = {"digest": f"sha256:{uuid.uuid4().hex}", "disruption": disruption, "changes": 1}

    def _take(self, wanted: dict[str, Any], grant: dict[str, Any]) -> None:
        assert self.pending is not None
        if grant["digest"] != self.pending["digest"] or grant["bootID"] != self.boot_id:
            return
        if grant["disruption"] != self.pending["disruption"]:
            self.ungranted.append(self.pending["digest"])
        taken = {key: grant[key] for key in ("digest", "bootID", "epoch")}
        version = wanted["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": {"node": {"taken": taken}}}
        self.api.patch(f"{TUNINGS}/{self.name}/status", body)
        self.granted.append(grant["digest"])
        self.taken = taken
        self.dead = self.behaviour == "hanging"

    def _work(self, taken: dict[str, Any]) -> None:
        """What a grant that was taken leads to. Its answer is the next report."""
        self.taken = None
        if self.pending is None:
            return
        if self.behaviour == "lying":
            self.pending = {**self.pending, "digest": f"sha256:{uuid.uuid4().hex}"}
            return
        self.applied_heavy.append((self.name, taken["digest"]))
        if self.pending["disruption"] == "reboot":
            self.reboot()
        self.pending = None

    def reboot(self) -> None:
        """Another boot of the node, as its kubelet tells the server too."""
        self.boot_id = str(uuid.uuid4())
        status = {"status": {"nodeInfo": {"bootID": self.boot_id}}}
        self.kubelet.call(
            "PATCH", f"/api/v1/nodes/{self.name}/status", status, "application/strategic-merge-patch+json"
        )

    def _report(self, wanted: dict[str, Any]) -> None:
        status = {
            "observedGeneration": wanted["metadata"]["generation"],
            "revision": self.revision,
            "baseline": self.baseline,
            "bootID": self.boot_id,
            "version": "0.1.0",
            "error": self.error,
            "refusal": self.refusal,
            "taken": self.taken,
            "tunables": TUNABLES,
            "notAsWanted": 0,
            "proposal": self.pending,
            "summary": {"converged": 1, "drifted": 0, "unknown": 0},
        }
        current = (wanted.get("status") or {}).get("node") or {}
        changed = {key: value for key, value in status.items() if current.get(key) != value}
        if changed:
            self.api.patch(f"{TUNINGS}/{self.name}/status", {"status": {"node": changed}})
            self.writes += 1


class Fleet:
    """Simulated agents at work in a thread with an asyncio loop of its own."""

    def __init__(self, agents: list[SimulatedAgent], pause_s: float = 0.3) -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Fleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    async def _run(self) -> None:
        await asyncio.gather(*(self._play(agent) for agent in self.agents.values()))

    async def _play(self, agent: SimulatedAgent) -> None:
        while not self._stop.is_set():
            # A server that is away, or a write that lost a race, is tried again at the next look.
            with contextlib.suppress(ApiFailed):
                await asyncio.to_thread(agent.step)
            await asyncio.sleep(self.pause_s * random.uniform(0.7, 1.3))


class WatchLog:
    """Every state of NodeTunings, Nodes and the ledger that the server showed."""

    def __init__(self, plane: ControlPlane) -> None:
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._stop = threading.Event()
        context = ssl.create_default_context(cafile=str(plane.pki / "ca.crt"))
        context.load_cert_chain(plane.pki / "admin.crt", plane.pki / "admin.key")
        self._credentials = Credentials("127.0.0.1", API_PORT, context)
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._follow, args=(kind, path), daemon=True)
            for kind, path in (
                ("tuning", TUNINGS), ("node", "/api/v1/nodes"),
                ("ledger", f"/api/v1/namespaces/{NAMESPACE}/configmaps"),
            )
        ]  # fmt: skip

    def __enter__(self) -> WatchLog:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def in_order(self) -> list[tuple[str, dict[str, Any]]]:
        """Every state in the order of the store's revisions, which is one order over all kinds."""
        with self._lock:
            return [(kind, seen) for _, kind, seen in sorted(self._events, key=lambda one: one[0])]

    def _follow(self, kind: str, path: str) -> None:
        from http.client import HTTPSConnection

        connection = HTTPSConnection(
            self._credentials.host, self._credentials.port, context=self._credentials.context, timeout=600
        )
        connection.request("GET", f"{path}?watch=1&timeoutSeconds=590")
        answer = connection.getresponse()
        while not self._stop.is_set():
            line = answer.readline()
            if not line:
                return
            event = json.loads(line)
            version = int(event["object"]["metadata"]["resourceVersion"])
            with self._lock:
                self._events.append((version, kind, event["object"]))
