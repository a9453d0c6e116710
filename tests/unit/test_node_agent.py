"""A node's agent over an API server in memory: what it takes leave for, when, and what it answers."""

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
# A change of class kubelet that is made at run time, and one that only a reboot brings about.
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

    def get(self, path: str) -> Any:
        if self.is_away:
            raise ApiFailed(0, "away")
        if "controllerrevisions" in path:
            return self.revisions.get(path.rpartition("/")[2])
        return json.loads(json.dumps(self.tuning if "nodetunings" in path else self.policy))

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        self.before_patch()
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != self.tuning["metadata"]["resourceVersion"]:
            raise ApiFailed(409, "the object has been modified")
        self.patches.append(body["status"]["node"])
        self._moved()
        merge(self.tuning, {"status": body["status"]})
        return json.loads(json.dumps(self.tuning))

    def call(self, *_: Any) -> None:
        """Events are taken."""

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
        """What the node says, with what it leaves out as it is read."""
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
        """Leave for what the node proposes."""
        pending = self.node["proposal"]
        grant = {
            "digest": pending["digest"], "disruption": pending["disruption"], "lifetimeSeconds": 900, "bootID": "b0",
            "epoch": self.tuning["metadata"]["generation"], **change,
        }  # fmt: skip
        self.spec(grant=grant)
        return grant


class Programs:
    """A host on which a reboot can be ordered; nothing else runs."""

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
    """One agent on a tree; `again` is the process started anew."""

    def __init__(self, root: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(node_agent, "credentials", lambda: None)
        monkeypatch.setattr(node_agent, "KubeApi", lambda _: server)
        self.root = root
        self.server = server
        self.programs = Programs()
        write_tree(root, FILES, FOLDERS)
        self.again()

    def again(self) -> None:
        session = session_of(tree(Files(str(self.root)), self.programs), {})
        session.state.make()
        self.agent = node_agent.NodeAgent(session, "n1", Metrics(), threading.Event(), 60)

    def read(self, path: str) -> str:
        return (self.root / path).read_text().strip()

    def boot(self, boot_id: str) -> None:
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot_id}\n")
        (self.root / SMT_PATH).write_text("on\n")
        self.again()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, Server(), monkeypatch)


def test_live_changes_go_at_once_and_heavier_ones_are_proposed(node: Node) -> None:
    name = node.server.name(SMT)
    node.agent.once()
    told = node.server.node
    assert node.read("proc/sys/vm/swappiness") == "10" and node.read(SMT_PATH) == "on"
    assert told["revision"] == name and told["notAsWanted"] == 0 and told["refusal"] == "" and told["error"] == ""
    assert told["proposal"]["disruption"] == "kubelet" and told["proposal"]["changes"] == 1
    assert told.get("taken") is None


def test_a_grant_is_taken_before_the_first_write_and_answered_after_the_last(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    seen: list[str] = []
    node.server.before_patch = lambda: seen.append(node.read(SMT_PATH))
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    taken, answer = node.server.patches[-2:]
    assert taken == {"taken": {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}}
    assert seen == ["on", "off"] and answer["taken"] is None and answer["proposal"] is None
    # The same grant is worth nothing more.
    (node.root / SMT_PATH).write_text("on\n")
    node.agent.once()
    assert node.server.node["proposal"]["digest"]


def test_a_grant_that_was_taken_back_cannot_be_taken(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()

    def take_back() -> None:
        node.server.before_patch = lambda: None
        node.server.spec(grant=None)

    node.server.before_patch = take_back
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert not any((patch.get("taken") or {}).get("digest") for patch in node.server.patches)


@pytest.mark.parametrize(
    "change",
    [
        {"bootID": "b9"},
        {"bootID": ""},
        {"digest": "sha256:other"},
        {"lifetimeSeconds": -1},
        {"disruption": "live"},
        {"disruption": "x"},
    ],
    ids=str,
)
def test_a_grant_that_does_not_fit_is_not_taken(node: Node, change: dict[str, Any]) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant(**change)
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert node.server.node.get("taken") is None


def test_an_agent_that_died_with_a_grant_in_hand_goes_on_and_answers(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    taken = {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}
    merge(node.server.tuning, {"status": {"node": {"taken": taken}}})
    node.again()
    node.agent.once()
    assert node.read(SMT_PATH) == "off" and node.server.node.get("taken") is None


def test_one_whose_grant_is_gone_answers_without_a_change(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    merge(node.server.tuning, {"status": {"node": {"taken": {"digest": "d", "bootID": "b0", "epoch": 1}}}})
    node.again()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_a_reboot_is_answered_from_the_next_boot(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    assert node.server.node["proposal"]["disruption"] == "reboot"
    grant = node.server.grant()
    node.agent.once()
    assert node.programs.reboots == 1
    # Until the machine goes down nothing is answered, however long that takes and whatever runs out meanwhile.
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node["taken"]["digest"] == grant["digest"]
    text = FILES["proc/1/limits"].replace("8388608", "unlimited")
    (node.root / "proc/1/limits").write_text(text)
    node.boot("b1")
    node.agent.once()
    told = node.server.node
    assert (
        told.get("taken") is None
        and told.get("proposal") is None
        and told["bootID"] == "b1"
        and told["notAsWanted"] == 0
    )
    assert node.programs.reboots == 1


def test_a_reboot_that_cannot_be_ordered_is_given_up_when_the_grant_has_run_out(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.programs.refuses = True
    with pytest.raises(Exception, match="reboot"):
        node.agent.once()
    assert node.server.node["taken"]
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node.get("taken") is None


def test_content_that_this_agent_will_not_take_is_a_refusal_and_a_server_that_is_away_is_none(node: Node) -> None:
    first = node.server.name(LIVE)
    node.agent.once()
    second = node.server.name({"sysctl": {"vm.swappiness": 1000}})
    node.agent.once()
    assert second in node.server.node["refusal"] and "between 0 and 200" in node.server.node["refusal"]
    assert node.server.node["revision"] == first and node.read("proc/sys/vm/swappiness") == "10"
    node.server.name(LIVE)
    node.agent.once()
    assert node.server.node["refusal"] == ""
    node.server.is_away = True
    (node.root / "proc/sys/vm/swappiness").write_text("60\n")
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"


def test_what_this_host_cannot_do_is_a_refusal(node: Node) -> None:
    node.server.name({"kernelArguments": {"isolcpus": "1"}})
    node.agent.once()
    assert "kernelArguments arg:isolcpus" in node.server.node["refusal"]
    assert "by hand" in node.server.node["refusal"] and node.server.node["notAsWanted"] == 1


def test_baseline_takes_its_grant_too(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "60" and node.read(SMT_PATH) == "off"
    assert node.server.node["proposal"]["disruption"] == "kubelet" and not node.server.node["baseline"]
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node["baseline"] and node.server.node.get("taken") is None


def test_pause_takes_no_grant(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.server.policy = {"spec": {"pause": "all"}}
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_without_a_policy_the_agent_goes_on(node: Node) -> None:
    node.server.policy = None
    node.server.name(LIVE)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"
