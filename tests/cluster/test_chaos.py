"""Trouble of every kind during roll-outs that reboot. It ends with no cordon, no place and no grant left.

Invariants at every moment that the server showed: no cordon without a place, no grant without both, never more nodes out
of service than the budget allows.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controlplane import ControlPlane, wait_for
from simulated import NAMESPACE, TUNINGS, Fleet, SimulatedAgent, WatchLog, admin, simulated
from test_fleet import Operator, check_log, condition, nodes
from tuneagent.node.api_client import ApiFailed

HERE = Path(__file__).parent
ARGUMENT = iter(range(1, 10_000))
LABELS = {"tier": "chaos"}
BUDGET = 3


@pytest.fixture(scope="module")
def agents(plane: ControlPlane) -> Iterator[list[SimulatedAgent]]:
    plane.kubectl(
        "patch", "tuningpolicy", "default", "--type=merge", "-p", json.dumps({"spec": {"maxUnavailable": BUDGET}})
    )
    found = [simulated(plane, f"fleet-chaos-{number:02d}", LABELS) for number in range(12)]
    yield found
    names = [agent.name for agent in found]
    plane.kubectl("delete", "tuningprofile", "chaos", "--ignore-not-found")
    plane.kubectl("delete", "nodetuning", *names, "--ignore-not-found")
    plane.kubectl("delete", "node", *names)


@pytest.fixture
def operator(plane: ControlPlane, tmp_path: Path) -> Iterator[Operator]:
    made = Operator(plane, tmp_path, "--grant-limit", "20")
    plane.kubectl("delete", "lease", "tuneagent-operator", "-n", NAMESPACE, "--ignore-not-found")
    made.start()
    yield made
    made.started.stop()
    print(made.started.tail("operator"))


def roll_out(plane: ControlPlane, **rollout: Any) -> None:
    """Name a change that needs a reboot of every node."""
    spec = {
        "nodeSelector": {"matchLabels": LABELS},
        "tune": {"kernelArguments": {"nohz_full": str(next(ARGUMENT))}},
        "rollout": {
            "canary": 0, "soakSeconds": 0, "maxParallelLive": 12, "maxUnavailable": BUDGET, "failureThreshold": 100,
            "maxUnhealthy": "100%", **rollout,
        },
    }  # fmt: skip
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "chaos"}}
    plane.kubectl("apply", "-f", "-", stdin=json.dumps({**head, "spec": spec}))


def ended(plane: ControlPlane, done: int, failed: int = 0) -> bool:
    generation = plane.get("tuningprofile", "chaos")["metadata"]["generation"]
    told = condition(plane, "chaos", "RolledOut")
    found = nodes(plane, "chaos")
    return told.get("observedGeneration") == generation and (found["done"], found["failed"]) == (done, failed)


def places(plane: ControlPlane) -> dict[str, Any]:
    found = plane.get("configmap", "tuneagent-ledger", "-n", NAMESPACE)
    places: dict[str, Any] = json.loads(found["data"]["places"])
    return places


def is_clean(plane: ControlPlane) -> bool:
    """No cordon, no mark, no place and no grant anywhere."""
    items = plane.get("nodes")["items"]
    cordons = [item for item in items if item["spec"].get("unschedulable")]
    marks = [item for item in items if "tuneagent.dev/cordoned" in item["metadata"].get("annotations", {})]
    grants = [item for item in plane.get("nodetunings")["items"] if item["spec"].get("grant")]
    return not (cordons or marks or grants or places(plane))


def test_agents_of_every_kind(plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]) -> None:
    kinds = ("good", "lying", "dying", "hanging", "failing", "wild")
    for number, agent in enumerate(agents):
        agent.behaviour, agent.dead = kinds[number % len(kinds)], False
    with WatchLog(plane) as log, Fleet(agents):
        time.sleep(1)
        roll_out(plane)
        wait_for("end", lambda: ended(plane, 2, 10), 150, started=operator.started)
        # Those that took a grant and hang keep their places, and what that costs the others is said, not hidden.
        held = {agent.name for agent in agents if agent.behaviour == "hanging"}
        wait_for("places of the hanging alone", lambda: set(places(plane)) == held, 30, started=operator.started)
        # One answers after all, the other is rebooted by hand: its kubelet proves that nothing is under way.
        first, second = (agent for agent in agents if agent.behaviour == "hanging")
        first.behaviour, first.dead = "good", False
        second.reboot()
        wait_for("clean", lambda: is_clean(plane), 60, started=operator.started)
        operator.check()
    check_log(log, max_unavailable=BUDGET)


def test_objects_deleted_nodes_denied_and_conflicts(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    for agent in agents:
        agent.behaviour, agent.dead, agent.taken = "good", False, None
    denied = agents[3].name
    plane.kubectl("apply", "-f", "-", stdin=denial(denied))
    time.sleep(2)
    stop = threading.Event()
    disturber = threading.Thread(target=disturb, args=(plane, agents, stop), daemon=True)
    with Fleet(agents):
        time.sleep(1)
        disturber.start()
        roll_out(plane)
        wait_for("cordons", lambda: places(plane), 60, started=operator.started)
        # A Lease that someone emptied.
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/tuneagent-operator"
        admin(plane).patch(lease, {"spec": None})
        spec = plane.get("tuningpolicy", "default")["spec"]
        for number in range(5):
            taken = sorted(places(plane))
            if taken:
                plane.kubectl("delete", "nodetuning", taken[number % len(taken)], "--ignore-not-found")
            if number == 1:
                plane.kubectl("delete", "tuningpolicy", "default")
            if number == 3:
                assert "default" not in plane.kubectl("get", "tuningpolicy", "-o", "name"), "the operator made a policy"
                plane.kubectl("apply", "-f", "-", stdin=policy(spec))
            if number == 4:
                plane.kubectl("delete", "configmap", "tuneagent-ledger", "-n", NAMESPACE)
            time.sleep(2)
        # All but the denied one proceed; that one is named.
        wait_for("the others", lambda: nodes(plane, "chaos")["done"] == 11, 150, started=operator.started)
        wait_for("named", lambda: denied in condition(plane, "chaos", "WritesRefused").get("message", ""), 30)
        stop.set()
        plane.kubectl("delete", "validatingadmissionpolicybinding", "deny-one")
        plane.kubectl("delete", "validatingadmissionpolicy", "deny-one")
        wait_for("end", lambda: ended(plane, 12), 150, started=operator.started)
        wait_for("clean", lambda: is_clean(plane), 60, started=operator.started)
        operator.check()
    assert plane.get("tuningpolicy", "default")["spec"] == spec


def policy(spec: dict[str, Any]) -> str:
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningPolicy", "metadata": {"name": "default"}}
    return json.dumps({**head, "spec": spec})


def denial(node: str) -> str:
    """An admission policy of someone else that refuses what the operator writes to one NodeTuning."""
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "deny-one"}}
    rule = {
        "apiGroups": ["tuneagent.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["nodetunings", "nodetunings/status"],
    }  # fmt: skip
    one = {
        **head,
        "kind": "ValidatingAdmissionPolicy",
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": f"!(request.name == '{node}' && request.userInfo.username.endsWith(':tuneagent-operator'))",
                    "message": "someone says no",
                }
            ],
        },
    }
    two = {
        **head,
        "kind": "ValidatingAdmissionPolicyBinding",
        "spec": {"policyName": "deny-one", "validationActions": ["Deny"]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [one, two]})


def disturb(plane: ControlPlane, agents: list[SimulatedAgent], stop: threading.Event) -> None:
    """Someone who writes to the same objects all the time: every write bound to a version may lose a race."""
    api = admin(plane)
    while not stop.is_set():
        name = random.choice(agents).name
        try:
            api.patch(f"{TUNINGS}/{name}", {"metadata": {"annotations": {"disturbed": str(random.random())}}})
            api.patch(f"/api/v1/nodes/{name}", {"metadata": {"annotations": {"disturbed": str(random.random())}}})
        except ApiFailed:
            pass
        time.sleep(0.05)


class Mortal(Operator):
    """An operator that dies at its N-th write."""

    def start_mortal(self, at: int, when: str) -> None:
        environment = {"KUBECONFIG": str(self.kubeconfig), "TUNEAGENT_DIES_AT": str(at), "TUNEAGENT_DIES": when}
        argv = [sys.executable, str(HERE / "mortal_operator.py"), *self.options]
        self.process = self.started.start("operator", argv, environment)

    def wait_for_death(self, timeout_s: float) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.started.processes.clear()
                return True
            time.sleep(0.05)
        return False


def test_a_death_at_every_write(plane: ControlPlane, agents: list[SimulatedAgent], tmp_path: Path) -> None:
    """Each life of the operator makes one write, or dies before its second one: no two writes are made by one life."""
    few = agents[:2]
    for agent in agents:
        agent.behaviour, agent.dead = "good", False
    plane.kubectl("label", "node", *(agent.name for agent in few), "mortal=true")
    plane.kubectl("patch", "tuningpolicy", "default", "--type=merge", "-p", '{"spec":{"maxUnavailable":1}}')
    mortal = Mortal(plane, tmp_path, "--grant-limit", "120", "--apply-limit", "120")
    deaths = 0
    with WatchLog(plane) as log, Fleet(agents, pause_s=0.1):
        time.sleep(1)
        selector = {"matchLabels": {"mortal": "true"}}
        plane.kubectl("apply", "-f", "-", stdin=mortal_profile(selector))
        for life in range(150):
            plane.kubectl("delete", "lease", "tuneagent-operator", "-n", NAMESPACE, "--ignore-not-found")
            mortal.start_mortal(*((1, "after") if life % 2 else (2, "before")))
            if not mortal.wait_for_death(20):
                # Nothing was left to write.
                break
            deaths += 1
        print(f"{deaths} deaths")
        assert mortal.process is not None and mortal.process.poll() is None, mortal.started.tail("operator")
        found = condition(plane, "mortal", "RolledOut")
        assert found["status"] == "True", (found, nodes(plane, "mortal"))
        assert is_clean(plane)
        mortal.started.stop()
    assert deaths > 20
    check_log(log, max_unavailable=1)
    for agent in few:
        assert not agent.ungranted
    plane.kubectl("delete", "tuningprofile", "mortal")
    plane.kubectl(
        "patch", "tuningpolicy", "default", "--type=merge", "-p", json.dumps({"spec": {"maxUnavailable": BUDGET}})
    )


def mortal_profile(selector: dict[str, Any]) -> str:
    spec = {
        "nodeSelector": selector,
        "priority": 50,
        "tune": {"kernelArguments": {"nohz_full": "7"}},
        "rollout": {
            "canary": 0,
            "soakSeconds": 0,
            "maxParallelLive": 2,
            "failureThreshold": 100,
            "maxUnhealthy": "100%",
        },
    }
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "mortal"}}
    return json.dumps({**head, "spec": spec})


def test_a_node_that_is_down_leaves_less_room(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    down = agents[-BUDGET:]
    for agent in agents:
        agent.behaviour, agent.dead = "good", False
    api = admin(plane)
    with Fleet(agents):
        wait_for("settled", lambda: ended(plane, 12) and is_clean(plane), 150, started=operator.started)
        for agent in down:
            set_ready(plane, agent.name, ready=False)
        roll_out(plane)

        # As many are down as may be: the others wait for them, although none is down through us.
        def pending() -> list[str]:
            return [one["metadata"]["name"] for one in api.get(TUNINGS)["items"] if phase(one) == "Pending"]

        wait_for("Pending", lambda: len(pending()) == 12 - BUDGET, 60, started=operator.started)
        time.sleep(4)
        assert not places(plane) and len(pending()) == 12 - BUDGET
        assert condition(plane, "chaos", "RolledOut")["status"] == "False"
        for agent in down:
            set_ready(plane, agent.name, ready=True)
        wait_for("end", lambda: ended(plane, 12) and is_clean(plane), 150, started=operator.started)


def phase(tuning: dict[str, Any]) -> str:
    return str(tuning.get("status", {}).get("rollout", {}).get("phase", ""))


def set_ready(plane: ControlPlane, node: str, *, ready: bool) -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True" if ready else "False", "reason": "Played", "message": ""}]
    }
    plane.kubectl(
        "patch", "node", node, "--subresource=status", "--type=strategic", "-p", json.dumps({"status": status})
    )


@pytest.fixture
def kinds_return(plane: ControlPlane) -> Iterator[None]:
    """Whatever becomes of the test, the tests after it find our kinds served."""
    yield
    plane.kubectl("apply", "-f", str(HERE.parents[1] / "manifests/crds"))
    wait_for("served again", lambda: plane.get("nodetunings") is not None, 60)


@pytest.mark.usefixtures("kinds_return")
def test_deleting_the_kind_takes_our_cordons_off(
    plane: ControlPlane, operator: Operator, agents: list[SimulatedAgent]
) -> None:
    for agent in agents:
        agent.behaviour, agent.dead = "hanging", False
    with Fleet(agents):
        time.sleep(1)
        roll_out(plane)
        wait_for("grants", lambda: len(places(plane)) == BUDGET, 60, started=operator.started)
        # Any of the twelve may have answered first and hold a place; a cordon of someone else's is on one that does not.
        theirs = next(agent.name for agent in agents if agent.name not in places(plane))
        plane.kubectl("cordon", theirs)
        plane.kubectl("delete", "crd", "nodetunings.tuneagent.dev")

        def only_theirs() -> bool:
            found = cordoned(plane)
            assert found == [theirs], f"cordoned: {found}"
            return True

        wait_for("uncordoned", only_theirs, 90, started=operator.started)
        operator.check()
        plane.kubectl("uncordon", theirs)
        plane.kubectl("delete", "tuningprofile", "chaos")
        plane.kubectl("apply", "-f", str(HERE.parents[1] / "manifests/crds"))
        wait_for("served again", lambda: plane.get("nodetunings") is not None, 60)
        wait_for("clean", lambda: is_clean(plane), 60, started=operator.started)


def cordoned(plane: ControlPlane) -> list[str]:
    return [item["metadata"]["name"] for item in plane.get("nodes")["items"] if item["spec"].get("unschedulable")]
