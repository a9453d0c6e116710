"""Three real daemons, each on a tree of its own, against the real API server; revisions that are not sound."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from controlplane import ControlPlane, Started, wait_for
from simulated import make_node
from support import write_tree
from test_fleet import Operator

TUNEAGENT = str(Path(sys.executable).parent / "tuneagent")
NAMES = ("tree-one", "tree-two", "tree-three")
FILES = {
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/vm/stat_interval": "1\n",
    "proc/sys/kernel/random/boot_id": "b0\n",
}


@dataclass
class Daemon:
    """A daemon, its tree and how to start it again."""

    name: str
    root: Path
    started: Started
    kubeconfig: Path

    def start(self) -> None:
        argv = [TUNEAGENT, "--root", self.root, "daemon", "--node", self.name, "--interval", "1", "--metrics", "off"]
        self.process = self.started.start(self.name, [str(word) for word in argv], {"KUBECONFIG": str(self.kubeconfig)})

    def value(self, key: str = "swappiness") -> str:
        return (self.root / "proc/sys/vm" / key).read_text().strip()


@pytest.fixture(scope="module")
def daemons(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Daemon]]:
    folder = tmp_path_factory.mktemp("daemons")
    operator = Operator(plane, folder)
    operator.start()
    found = {}
    for name in NAMES:
        credentials = make_node(plane, name, {"tier": "trees"})
        write_tree(folder / name, FILES, ["etc/sysctl.d"])
        kubeconfig = plane.write_kubeconfig(name, {"token": credentials.token or ""})
        found[name] = Daemon(name, folder / name, Started(folder / "logs"), kubeconfig)
        found[name].start()
    yield found
    for one in found.values():
        one.started.stop()
        print(one.name, one.started.tail(one.name))
    operator.started.stop()
    plane.kubectl("delete", "tuningprofile", "trees", "--ignore-not-found")
    plane.kubectl("delete", "nodetuning", *NAMES, "--ignore-not-found")
    plane.kubectl("delete", "node", *NAMES)
    print(operator.started.tail("operator"))


def _profile(value: int) -> str:
    spec = {
        "nodeSelector": {"matchLabels": {"tier": "trees"}},
        "tune": {"sysctl": {"vm.swappiness": value, "vm.stat_interval": 10}},
        "rollout": {"canary": 1, "soakSeconds": 1, "maxParallelLive": 3},
    }
    return json.dumps(
        {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "trees"}, "spec": spec}
    )


def _node(plane: ControlPlane, name: str) -> dict[str, object]:
    found: dict[str, object] = plane.get("nodetuning", name)["status"]["node"]
    return found


def test_rollout_reaches_all_three(plane: ControlPlane, daemons: dict[str, Daemon]) -> None:
    plane.kubectl("apply", "-f", "-", stdin=_profile(10))
    wait_for("values", lambda: all(one.value() == "10" for one in daemons.values()), 90)
    wait_for("Done", lambda: plane.get("tuningprofile", "trees")["status"]["nodes"]["done"] == 3, 60)
    assert "vm.swappiness = 10" in (daemons["tree-one"].root / "etc/sysctl.d/99-zz-tuneagent.conf").read_text()


def test_drift_is_repaired(daemons: dict[str, Daemon]) -> None:
    one = daemons["tree-two"]
    (one.root / "proc/sys/vm/swappiness").write_text("60\n")
    wait_for("repair", lambda: one.value() == "10", 30)


def test_an_agent_that_was_killed_goes_on(plane: ControlPlane, daemons: dict[str, Daemon]) -> None:
    one = daemons["tree-three"]
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()
    (one.root / "proc/sys/vm/swappiness").write_text("60\n")
    one.start()
    wait_for("repair", lambda: one.value() == "10", 30)


def test_a_revision_that_is_cut_changes_nothing(plane: ControlPlane, daemons: dict[str, Daemon]) -> None:
    name = plane.get("nodetuning", "tree-one")["spec"]["revision"]
    sound = plane.get("controllerrevision", name, "-n", "tuneagent-system")
    broken = {
        "cut": {**sound["data"], "spec": {"tune": {"sysctl": {"vm.swappiness": 99}}}},
        "newer": {**sound["data"], "apiVersion": "tuneagent.dev/v9"},
        "empty": {},
    }
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"rollouts"}}')
    for kind, data in broken.items():
        body = {
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data,
            "metadata": {"name": f"trees-{kind}", "namespace": "tuneagent-system"},
        }  # fmt: skip
        plane.kubectl("create", "-f", "-", stdin=json.dumps(body))
    for kind in [*broken, "missing"]:
        patch = json.dumps({"spec": {"revision": f"trees-{kind}"}})
        plane.kubectl("patch", "nodetuning", "tree-one", "--type=merge", "-p", patch)
        wait_for(kind, lambda kind=kind: f"trees-{kind}" in str(_node(plane, "tree-one").get("error")), 20)
        assert _node(plane, "tree-one")["revision"] == name
        assert daemons["tree-one"].value() == "10"
    plane.kubectl("patch", "nodetuning", "tree-one", "--type=merge", "-p", json.dumps({"spec": {"revision": name}}))
    wait_for("sound again", lambda: not _node(plane, "tree-one").get("error"), 20)
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"none"}}')


def test_without_the_objects_nothing_changes(plane: ControlPlane, daemons: dict[str, Daemon]) -> None:
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"rollouts"}}')
    plane.kubectl("delete", "nodetuning", "tree-one")
    time.sleep(3)
    assert daemons["tree-one"].value() == "10"
    one = daemons["tree-one"]
    (one.root / "proc/sys/vm/swappiness").write_text("60\n")
    wait_for("the last good revision goes on", lambda: one.value() == "10", 30)
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"pause":"none"}}')


def test_sigterm_leaves_everything_as_it_is(daemons: dict[str, Daemon]) -> None:
    one = daemons["tree-two"]
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(20) == 0
    assert one.value() == "10"
