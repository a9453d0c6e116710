"""Roll-outs over simulated nodes against a real API server, with the operator killed at random."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controlplane import ControlPlane, Started, wait_for
from simulated import Fleet, SimulatedAgent, WatchLog, simulated

LABELS = {"tier": "fleet"}
BAD = {"fleet-07": "failing", "fleet-11": "lying", "fleet-13": "dying"}


class Operator:
    """The real operator as a process, with its own service account's token."""

    def __init__(self, plane: ControlPlane, folder: Path, *options: str) -> None:
        self.options = ("--metrics", "off", "--poll", "1", "--apply-limit", "15", *options)
        token = plane.kubectl(
            "create", "token", "tuneagent-operator", "-n", "tuneagent-system", "--duration=2h"
        ).strip()
        self.kubeconfig = plane.write_kubeconfig("operator", {"token": token})
        self.started = Started(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "tuneoperator", *self.options]
        self.process = self.started.start("operator", argv, {"KUBECONFIG": str(self.kubeconfig)})

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def check(self) -> None:
        assert self.process is not None and self.process.poll() is None, self.started.tail("operator")


@pytest.fixture
def operator(plane: ControlPlane, tmp_path: Path) -> Iterator[Operator]:
    made = Operator(plane, tmp_path)
    made.start()
    yield made
    made.started.stop()
    print(made.started.tail("operator"))


@pytest.fixture(scope="module")
def agents(plane: ControlPlane) -> list[SimulatedAgent]:
    found = []
    for number in range(20):
        name = f"fleet-{number:02d}"
        found.append(simulated(plane, name, LABELS, BAD.get(name, "good")))
    return found


def profile(name: str, tune: dict[str, Any], **rollout: Any) -> str:
    spec = {
        "nodeSelector": {"matchLabels": LABELS},
        "tune": tune,
        "rollout": {
            "canary": 1,
            "soakSeconds": 1,
            "maxParallelLive": 4,
            "maxUnavailable": 2,
            "failureThreshold": 10,
            **rollout,
        },
    }
    document = {
        "apiVersion": "tuneagent.dev/v1alpha1",
        "kind": "TuningProfile",
        "metadata": {"name": name},
        "spec": spec,
    }
    return json.dumps(document)


def nodes(plane: ControlPlane, name: str) -> dict[str, Any]:
    status = plane.get("tuningprofile", name).get("status", {})
    found: dict[str, Any] = status.get("nodes", {})
    return found


def condition(plane: ControlPlane, name: str, kind: str) -> dict[str, Any]:
    status = plane.get("tuningprofile", name).get("status", {})
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def check_log(log: WatchLog, *, max_unavailable: int) -> None:
    """The invariants, at every moment that the server showed."""
    cordoned: dict[str, bool] = {}
    holders: set[str] = set()
    tunings: dict[str, dict[str, Any]] = {}
    for kind, seen in log.in_order():
        name = seen.get("metadata", {}).get("name", "")
        if kind == "node" and name.startswith("fleet-"):
            cordoned[name] = bool(seen["spec"].get("unschedulable"))
            if cordoned[name]:
                assert name in holders, f"{name} cordoned without a place in the ledger"
        elif kind == "ledger" and name == "tuneagent-ledger":
            holders = set(json.loads(seen.get("data", {}).get("places", "{}")))
            assert len(holders) <= max_unavailable, holders
        elif kind == "tuning" and name.startswith("fleet-"):
            tunings[name] = seen
            if seen["spec"].get("grant"):
                assert name in holders and cordoned.get(name), f"{name} has a grant without a place or a cordon"
        assert sum(cordoned.values()) <= max_unavailable, cordoned
    assert not any(cordoned.values()), "a node was left cordoned"
    assert not holders, "a place was left taken"
    assert not [name for name, seen in tunings.items() if seen["spec"].get("grant")], "a grant was left"


def test_live_rollout_then_a_failing_node_halts(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    with WatchLog(plane) as log, Fleet(agents):
        time.sleep(1)
        plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"maxUnavailable":2}}')
        plane.kubectl("apply", "-f", "-", stdin=profile("fleet", {"sysctl": {"vm.swappiness": 10}}, failureThreshold=1))
        wait_for(
            "halt",
            lambda: condition(plane, "fleet", "RolledOut").get("reason") == "FailureThreshold",
            120,
            started=operator.started,
        )
        operator.check()
        message = condition(plane, "fleet", "RolledOut")["message"]
        assert "fleet-07" in message
        done = nodes(plane, "fleet")
        assert done["failed"] >= 1 and done["waiting"] > 0, done
    in_flight: set[str] = set()
    for kind, seen in log.in_order():
        if kind == "tuning" and seen["metadata"]["name"].startswith("fleet-"):
            busy = seen.get("status", {}).get("rollout", {}).get("phase") in ("Applying", "Soaking")
            (in_flight.add if busy else in_flight.discard)(seen["metadata"]["name"])
            assert len(in_flight) <= 4, in_flight
    check_log(log, max_unavailable=2)


def test_reboot_rollout_with_the_operator_killed(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent], tmp_path: Path
) -> None:
    random.seed(3)
    for agent in agents:
        agent.behaviour = {"fleet-11": "lying", "fleet-13": "dying"}.get(agent.name, "good")
        agent.dead = False
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"maxUnavailable":2}}')
    with WatchLog(plane) as log, Fleet(agents):
        tune = {"sysctl": {"vm.swappiness": 10}, "kernelArguments": {"nohz_full": "1"}}
        plane.kubectl("apply", "-f", "-", stdin=profile("fleet", tune, maxParallelLive=6))
        ends = time.monotonic() + 400
        # At three points of progress, each a random moment later.
        moments = [2, 7, 13]
        kills = 0
        while time.monotonic() < ends:
            found = nodes(plane, "fleet")
            if found.get("done", 0) + found.get("failed", 0) == 20 and not found.get("inFlight"):
                break
            if moments and found.get("done", 0) >= moments[0]:
                time.sleep(random.uniform(0, 1))
                moments.pop(0)
                kills += 1
                operator.kill()
                plane.kubectl("delete", "lease", "tuneagent-operator", "-n", "tuneagent-system", "--ignore-not-found")
                operator.start()
            time.sleep(0.3)
        operator.check()
        found = nodes(plane, "fleet")
        assert found["done"] == 18 and found["failed"] == 2, found
    assert kills == 3
    check_log(log, max_unavailable=2)
    liar = plane.get("nodetuning", "fleet-11")["status"]["rollout"]
    assert liar["phase"] == "Failed" and "changed again" in liar["reason"]
    dead = plane.get("nodetuning", "fleet-13")["status"]["rollout"]
    assert dead["phase"] == "Failed" and "did not answer" in dead["reason"]
    for agent in agents:
        if agent.behaviour == "good":
            assert len(agent.applied_heavy) == 1 and not agent.ungranted, agent.name


def test_removal_waits_for_approval_and_then_goes_to_baseline(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    for agent in agents:
        agent.behaviour, agent.dead = "good", False
    with WatchLog(plane) as log, Fleet(agents):
        plane.kubectl("delete", "tuningprofile", "fleet")
        waiting = wait_for(
            "approval",
            lambda: plane.get("tuningpolicy", "default").get("status", {}).get("awaitingApproval"),
            60,
            started=operator.started,
        )
        time.sleep(3)
        assert not any(agent.baseline for agent in agents), "baseline before it was approved"
        patch = json.dumps({"spec": {"approve": waiting}})
        plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", patch)
        wait_for("baseline", lambda: all(agent.baseline for agent in agents), 120, started=operator.started)
        operator.check()
    check_log(log, max_unavailable=2)


def test_nothing_is_written_when_nothing_changes(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    with Fleet(agents):
        time.sleep(6)
        before = {
            item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in plane.get("nodetunings")["items"]
        }
        writes = sum(agent.writes for agent in agents)
        time.sleep(15)
        after = {
            item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in plane.get("nodetunings")["items"]
        }
        assert before == after
        assert sum(agent.writes for agent in agents) == writes
