"""How a node is emptied before a disruptive change, with pods that hold GPUs, and two operators of which one leads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from controlplane import ControlPlane, wait_for
from simulated import Fleet, SimulatedAgent, simulated
from test_fleet import Operator

NAME = "drain-one"


@pytest.fixture(scope="module")
def fleet(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedAgent]:
    operators = [Operator(plane, tmp_path_factory.mktemp(f"operator{number}")) for number in range(2)]
    for operator in operators:
        operator.start()
    agent = simulated(plane, NAME, {"tier": "drain"})
    with Fleet([agent]):
        yield agent
    for operator in operators:
        operator.check()
        operator.started.stop()
        print(operator.started.tail("operator"))
    plane.kubectl("delete", "tuningprofile", "drain", "--ignore-not-found")
    plane.kubectl("delete", "nodetuning", NAME, "--ignore-not-found")
    plane.kubectl("delete", "node", NAME)


def _pod(plane: ControlPlane, name: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": NAME,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(body))


def _profile(plane: ControlPlane, argument: str, mode: str) -> None:
    spec = {
        "nodeSelector": {"matchLabels": {"tier": "drain"}},
        "tune": {"kernelArguments": {"nohz_full": argument}},
        "rollout": {"canary": 0, "soakSeconds": 1, "drain": {"mode": mode, "timeoutSeconds": 600}},
    }
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "drain"}}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({**head, "spec": spec}))


def _phase(plane: ControlPlane) -> str:
    tunings = plane.get("nodetunings")["items"]
    found = [one for one in tunings if one["metadata"]["name"] == NAME]
    return str(found[0].get("status", {}).get("rollout", {}).get("phase", "")) if found else ""


def _cordoned(plane: ControlPlane) -> bool:
    return bool(plane.get("node", NAME)["spec"].get("unschedulable"))


def test_a_node_with_a_gpu_pod_waits_until_it_is_idle(plane: ControlPlane, fleet: SimulatedAgent) -> None:
    _pod(plane, "trainer")
    _profile(plane, "1", "whenIdle")
    wait_for("Pending", lambda: _phase(plane) == "Pending", 60)
    time.sleep(5)
    assert _phase(plane) == "Pending" and not _cordoned(plane) and not fleet.granted
    plane.kubectl("delete", "pod", "trainer", "--force", "--grace-period=0")
    wait_for("Done", lambda: _phase(plane) == "Done", 60)
    assert len(fleet.applied_heavy) == 1 and not _cordoned(plane)


def test_evict_empties_the_node_first(plane: ControlPlane, fleet: SimulatedAgent) -> None:
    _pod(plane, "trainer-two")
    _profile(plane, "2", "evict")
    wait_for("Done", lambda: _phase(plane) == "Done" and len(fleet.applied_heavy) == 2, 90)
    assert "trainer-two" not in plane.kubectl("get", "pods", "-n", "default", "-o", "name")
    assert not _cordoned(plane)


def test_a_node_that_others_cordoned_is_left_alone(plane: ControlPlane, fleet: SimulatedAgent) -> None:
    plane.kubectl("cordon", NAME)
    before = len(fleet.granted)
    _profile(plane, "3", "whenIdle")
    time.sleep(8)
    assert len(fleet.granted) == before and _cordoned(plane)
    plane.kubectl("uncordon", NAME)
    wait_for("Done", lambda: len(fleet.applied_heavy) == 3 and _phase(plane) == "Done", 60)


def test_a_typo_in_the_profile_keeps_the_node_as_it_is(plane: ControlPlane, fleet: SimulatedAgent) -> None:
    revision = fleet.revision
    patch = json.dumps({"spec": {"tune": {"sysctI": {}}}})
    plane.kubectl("patch", "tuningprofile", "drain", "--type=merge", "-p", patch)

    def accepted() -> str:
        conditions = plane.get("tuningprofile", "drain")["status"]["conditions"]
        return next(str(one["message"]) for one in conditions if one["type"] == "Accepted")

    wait_for("refusal", lambda: "did you mean 'sysctl'" in accepted(), 30)
    time.sleep(4)
    assert fleet.revision == revision and not fleet.baseline


def test_one_of_two_operators_leads(plane: ControlPlane, fleet: SimulatedAgent, tmp_path: Path) -> None:
    lease = plane.get("lease", "tuneagent-operator", "-n", "tuneagent-system")
    assert lease["spec"]["holderIdentity"]
    time.sleep(6)
    again = plane.get("lease", "tuneagent-operator", "-n", "tuneagent-system")
    assert again["spec"]["holderIdentity"] == lease["spec"]["holderIdentity"]
