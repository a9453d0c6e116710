"""A cluster node's agent on a tree, over an API server in memory that holds its NodeTuning alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from memory_api import merge
from support import session_of, tree, write_tree
from tuneagent.contracts.node_tuning import NodeReport
from tuneagent.contracts.tuning_profile import ProfileSpec
from tuneagent.errors import CommandFailed
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.node import cluster_agent as node_agent
from tuneagent.node.api_client import ApiFailed
from tuneagent.node.metrics import Metrics
from tuneagent.profile_files.document import Profile

FILES = {
    "proc/sys/kernel/random/boot_id": "b0\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/cmdline": "ro quiet\n",
    "sys/devices/system/cpu/smt/control": "on\n",
    "proc/1/limits": "Max locked memory         8388608              8388608              bytes\n",
}
FOLDERS = ["etc/sysctl.d", "etc/tmpfiles.d", "etc/systemd", "etc/security/limits.d"]
LIVE = {"sysctl": {"vm.swappiness": 10}}
# A change of class kubelet that is made at run time, and one that takes effect only after a reboot.
SMT = {**LIVE, "smt": {"enabled": False}}
REBOOT = {**LIVE, "limits": {"memlock": "infinity"}}
SMT_PATH = "sys/devices/system/cpu/smt/control"


class Server:
    """NodeTuning `n1`, the policy and revisions, with resourceVersions and conflicts."""

    def __init__(self) -> None:
        self.version = 1
        self.tuning: dict[str, Any] = {"metadata": {"name": "n1", "generation": 1, "resourceVersion": "1"}, "spec": {}}
        self.policy: dict[str, Any] | None = {"spec": {}}
        self.revisions: dict[str, Any] = {}
        self.patches: list[dict[str, Any]] = []
        self.before_patch: Any = lambda: None
        self.is_away = False
        self.events: list[tuple[str, Any]] = []
        self.refuses_events = False
        self.refuses_revisions = False
        # Revisions that were read, in order.
        self.asked: list[str] = []

    def get(self, path: str) -> Any:
        if self.is_away:
            raise ApiFailed(0, "away")
        if "controllerrevisions" in path:
            self.asked.append(path.rpartition("/")[2])
            if self.refuses_revisions:
                raise ApiFailed(503, "no revisions now")
            return self.revisions.get(path.rpartition("/")[2])
        return json.loads(json.dumps(self.tuning if "nodetunings" in path else self.policy))

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        assert path == "/apis/tuneagent.dev/v1alpha1/nodetunings/n1/status"
        self.before_patch()
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != self.tuning["metadata"]["resourceVersion"]:
            raise ApiFailed(409, "the object has been modified")
        self.patches.append(body["status"]["node"])
        self._moved()
        merge(self.tuning, {"status": body["status"]})
        return json.loads(json.dumps(self.tuning))

    def call(self, method: str, path: str, body: Any) -> None:
        """Accept events, unless `refuses_events` is set."""
        assert method == "POST"
        if self.refuses_events:
            raise ApiFailed(403, "no events")
        self.events.append((path, body))

    def spec(self, **change: Any) -> None:
        """What the operator writes."""
        self.tuning["metadata"]["generation"] += 1
        self._moved()
        merge(self.tuning, {"spec": change})

    def _moved(self) -> None:
        self.version += 1
        self.tuning["metadata"]["resourceVersion"] = str(self.version)

    @property
    def node(self) -> dict[str, Any]:
        """What the node reports, with omitted fields at their defaults."""
        found = msgspec.convert(self.tuning.get("status", {}).get("node", {}), NodeReport)
        told: dict[str, Any] = msgspec.to_builtins(found)
        return told

    def name(self, tune: dict[str, Any], **spec: Any) -> str:
        """Store a revision and name it."""
        profile = Profile("p", msgspec.convert({"tune": tune, "drift": "repair", **spec}, ProfileSpec))
        name = f"p-{profile.revision}"
        content = {"tune": tune, "accept": [], "drift": profile.spec.drift}
        head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "p"}}
        self.revisions[name] = {"data": {**head, "spec": content}}
        self.spec(revision=name, profile="p", desired="Profile")
        return name

    def grant(self, **change: Any) -> dict[str, Any]:
        """Grant what the node proposes."""
        pending = self.node["proposal"]
        grant = {
            "digest": pending["digest"], "disruption": pending["disruption"], "lifetimeSeconds": 900, "bootID": "b0",
            "epoch": self.tuning["metadata"]["generation"], **change,
        }  # fmt: skip
        self.spec(grant=grant)
        return grant


class Programs:
    """A host on which only a reboot can be requested; no other program runs."""

    available = True
    label = "played"

    def __init__(self) -> None:
        self.reboots = 0
        self.refuses = False

    def run(self, argv: list[str], timeout_s: float = 20.0) -> Completed:
        del timeout_s
        if argv[0] != "systemd-run":
            raise CommandFailed(f"{argv[0]}: not here")
        self.reboots += not self.refuses
        return Completed(int(self.refuses), "", "no")


class Node:
    """One agent on a tree; `again` restarts its process."""

    def __init__(self, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(node_agent, "credentials", lambda: None)
        monkeypatch.setattr(node_agent, "KubeApi", lambda _: server)
        self.root = root
        self.server = server
        self.files = Files(str(root))
        self.programs = Programs()
        write_tree(root, FILES, FOLDERS)
        self.again()

    def again(self) -> None:
        session = session_of(tree(self.files, self.programs), {})
        session.state.make()
        self.agent = node_agent.NodeAgent(session, "n1", Metrics(), threading.Event(), 60)

    def read(self, path: str) -> str:
        return (self.root / path).read_text().strip()

    def boot(self, boot_id: str) -> None:
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot_id}\n")
        (self.root / SMT_PATH).write_text("on\n")
        self.again()
