"""What is refused, by the API server or by the operator: wrong selectors, profiles that no node would take, policies.

Outcomes at the API server only: what was stored, which conditions it has, what nodes were told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from controlplane import ControlPlane, wait_for
from simulated import Fleet, SimulatedAgent, admin, simulated
from test_fleet import Operator, condition
from tuneagent.node.api_client import ApiFailed, KubeApi

PROFILES = "/apis/tuneagent.dev/v1alpha1/tuningprofiles"
TUNE = {"sysctl": {"vm.swappiness": 10}}
NAMES = ("ref-one", "ref-two")


@pytest.fixture(scope="module")
def agents(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SimulatedAgent]]:
    operator = Operator(plane, tmp_path_factory.mktemp("operator"))
    operator.start()
    found = {name: simulated(plane, name, {"tier": "refusals", "gpu": "h100"}) for name in NAMES}
    with Fleet(list(found.values())):
        yield found
    operator.check()
    plane.kubectl("delete", "tuningprofiles", "--all")
    operator.started.stop()
    print(operator.started.tail("operator"))
    plane.kubectl("delete", "nodetuning", *NAMES, "--ignore-not-found")
    plane.kubectl("delete", "node", *NAMES)


@pytest.fixture(scope="module")
def api(plane: ControlPlane) -> KubeApi:
    """A plain client: kubectl refuses unknown fields by itself, a POST does not."""
    return admin(plane)


def post(api: KubeApi, name: str, spec: dict[str, Any]) -> str:
    """Create a profile; the API server's refusal, empty where it took it."""
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": name}}
    try:
        api.call("POST", PROFILES, {**head, "spec": spec})
    except ApiFailed as error:
        assert error.status == 422, error
        return str(error)
    return ""


def revisions(plane: ControlPlane) -> set[str]:
    return {item["spec"].get("revision", "") for item in plane.get("nodetunings")["items"]}


SELECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "bare-label": ({"nodeSelector": {"gpu": "h100"}}, "matchLabels: {gpu: h100}"),
    "singular": ({"nodeSelector": {"matchLabel": {"gpu": "h100"}}}, "did you mean 'matchLabels'"),
    "mixed": ({"nodeSelector": {"matchLabels": {"gpu": "h100"}, "tier": "x"}}, "matchLabels: {tier: x}"),
    "operator": ({"nodeSelector": {"matchExpressions": [{"key": "gpu", "operator": "Inn", "values": ["x"]}]}}, "In"),
    "no-values": ({"nodeSelector": {"matchExpressions": [{"key": "gpu", "operator": "In", "values": []}]}}, "value"),
    "values-missing": ({"nodeSelector": {"matchExpressions": [{"key": "gpu", "operator": "NotIn"}]}}, "value"),
    "values-of-exists": (
        {"nodeSelector": {"matchExpressions": [{"key": "gpu", "operator": "Exists", "values": ["x"]}]}},
        "none",
    ),
    "bool": ({"nodeSelector": {"matchLabels": {"gpu": True}}}, "string"),
    "number": ({"nodeSelector": {"matchLabels": {"gpu": 100}}}, "string"),
    "not-a-label": ({"nodeSelector": {"matchLabels": {"gpu": "h 100"}}}, "is not a label's value"),
    "both": ({"allNodes": True, "nodeSelector": {"matchLabels": {"gpu": "h100"}}}, "allNodes"),
    "text": ({"nodeSelector": "gpu=h100"}, "object"),
}


@pytest.mark.parametrize("case", SELECTORS)
def test_a_wrong_selector_selects_nothing_and_is_told(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent], case: str
) -> None:
    spec, told = SELECTORS[case]
    refusal = post(api, case, {**spec, "tune": TUNE})
    if not refusal:
        found = wait_for("Accepted=False", lambda: refused(plane, case), 20)
        refusal = found["message"]
        assert condition(plane, case, "RolledOut").get("status") != "True"
    assert told in refusal
    assert not any(name.startswith(case) for name in revisions(plane))
    plane.kubectl("delete", "tuningprofile", case, "--ignore-not-found")


def refused(plane: ControlPlane, name: str) -> dict[str, Any] | None:
    found = condition(plane, name, "Accepted")
    return found if found.get("status") == "False" else None


def test_a_missing_or_empty_selector_selects_nothing_and_says_so(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent]
) -> None:
    for name, spec in (
        ("missing", {}),
        ("empty", {"nodeSelector": {}}),
        ("emptied", {"nodeSelector": {"matchLabels": {}}}),
    ):
        assert post(api, name, {**spec, "tune": TUNE}) == ""
        found = wait_for("NoNodes", lambda name=name: told_no_nodes(plane, name), 20)
        assert "allNodes: true" in found["message"] and found["status"] == "False"
        assert condition(plane, name, "Accepted")["status"] == "True"
        plane.kubectl("delete", "tuningprofile", name)
    assert not revisions(plane) - {""}


def told_no_nodes(plane: ControlPlane, name: str) -> dict[str, Any] | None:
    found = condition(plane, name, "RolledOut")
    return found if found.get("reason") == "NoNodes" else None


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "forbidden-sysctl": ({"sysctl": {"kernel.core_pattern": "|/bin/x"}}, ("spec.tune.sysctl.kernel.core_pattern",)),
    "misspelt-sysctl": ({"sysctl": {"vm.swapiness": 10}}, ("did you mean 'vm.swappiness'",)),
    "sysctl-range": ({"sysctl": {"vm.swappiness": 1000}}, ("from 0 to 200",)),
    "page-size": ({"hugepages": {"pages": [{"size": "3Mi", "perNumaNode": 1}]}}, ("'3Mi' is not one of",)),
    "argument": ({"kernelArguments": {"init": "/bin/sh"}}, ("spec.tune.kernelArguments.init",)),
    "dirty": ({"dirtyPages": {"ratio": 10, "bytes": 1 << 30}}, ("two names of one setting",)),
    "unknown": ({"sysctls": {"vm.swappiness": 10}}, ("did you mean 'sysctl'",)),
    "all-faults": (
        {"sysctl": {"vm.swapiness": 1, "kernel.core_pattern": "x"}, "kernelArguments": {"init": "y"}},
        ("vm.swapiness", "kernel.core_pattern", "kernelArguments.init"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_node_would_take_is_not_accepted_and_never_named(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent], case: str
) -> None:
    tune, told = WRONG[case]
    assert post(api, case, {"allNodes": True, "tune": tune}) == ""
    found = wait_for("Accepted=False", lambda: refused(plane, case), 20)
    assert all(part in found["message"] for part in told), found["message"]
    rolled = wait_for("RolledOut", lambda: condition(plane, case, "RolledOut"), 20)
    assert (rolled["status"], rolled["reason"]) == ("False", "NotAccepted")
    assert not any(name.startswith(case) for name in revisions(plane))
    plane.kubectl("delete", "tuningprofile", case)


@pytest.mark.parametrize(
    "rollout",
    [
        {"maxParallelLive": "lots"},
        {"maxUnavailable": "250%"},
        {"canary": -3},
        {"maxUnhealthy": -1},
        {"soakSeconds": -1},
    ],
)
def test_numbers_of_a_rollout_are_refused_by_the_api_server(api: KubeApi, rollout: dict[str, Any]) -> None:
    assert next(iter(rollout)) in post(api, "numbers", {"tune": TUNE, "rollout": rollout})


@pytest.mark.parametrize("limit", ["lots", -5, "500%", "5 %", "", True, 1.5])
def test_a_policy_that_makes_no_sense_is_refused(plane: ControlPlane, api: KubeApi, limit: object) -> None:
    with pytest.raises(ApiFailed) as caught:
        api.patch("/apis/tuneagent.dev/v1alpha1/tuningpolicies/default", {"spec": {"maxUnavailable": limit}})
    assert caught.value.status == 422


@pytest.mark.parametrize("limit", [0, 3, "0%", "10%", "100%"])
def test_a_policy_that_makes_sense_is_taken(api: KubeApi, limit: object) -> None:
    path = "/apis/tuneagent.dev/v1alpha1/tuningpolicies/default"
    assert api.patch(path, {"spec": {"maxUnavailable": limit}})["spec"]["maxUnavailable"] == limit
    api.patch(path, {"spec": {"maxUnavailable": 2}})


def test_a_stored_policy_that_makes_no_sense_begins_nothing_and_ends_nobody(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent]
) -> None:
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tuningpolicies.tuneagent.dev"
    path = "/apis/tuneagent.dev/v1alpha1/tuningpolicies/default"
    sound = api.call("GET", crd)["spec"]["versions"]
    loose = json.loads(json.dumps(sound))
    loose[0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
        "type": "object", "x-kubernetes-preserve-unknown-fields": True,
    }  # fmt: skip
    api.patch(crd, {"spec": {"versions": loose}})
    try:
        for limit in ("lots", -5, "500%", {"a": 1}):
            wait_for("stored", lambda limit=limit: api.patch(path, {"spec": {"maxUnavailable": limit}}), 20)
            wait_for("Accepted=False", lambda: policy_condition(plane)["status"] == "False", 20)
        spec = {"nodeSelector": {"matchLabels": {"tier": "refusals"}}, "tune": TUNE, "rollout": {"soakSeconds": 1}}
        assert post(api, "waits", spec) == ""
        found = wait_for("Paused", lambda: paused(plane, "waits"), 20)
        assert "TuningPolicy/default is not valid" in found["message"]
    finally:
        api.patch(path, {"spec": {"maxUnavailable": 2}})
        api.patch(crd, {"spec": {"versions": sound}})
    wait_for("Done", lambda: condition(plane, "waits", "RolledOut").get("status") == "True", 60)
    assert policy_condition(plane)["status"] == "True"
    plane.kubectl("delete", "tuningprofile", "waits")


def policy_condition(plane: ControlPlane) -> dict[str, Any]:
    conditions = plane.get("tuningpolicy", "default")["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Accepted")


def paused(plane: ControlPlane, name: str) -> dict[str, Any] | None:
    found = condition(plane, name, "RolledOut")
    return found if found.get("reason") == "Paused" else None


def test_what_a_node_refuses_halts_the_canary_at_once(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent]
) -> None:
    for agent in agents.values():
        agent.behaviour = "refusing"
    try:
        assert post(api, "refused", {"nodeSelector": {"matchLabels": {"tier": "refusals"}}, "tune": TUNE}) == ""
        found = wait_for("halt", lambda: halted(plane, "refused"), 60)
        failed = [item for item in plane.get("nodetunings")["items"] if item["status"]["rollout"]["phase"] == "Failed"]
        assert len(failed) == 1 and "1 failed" in found["message"]
        reason = failed[0]["status"]["rollout"]["reason"]
        # Not "not done after 15 s": nobody waited for that.
        assert reason.startswith("refused by its agent") and "needs more memory" in reason
    finally:
        for agent in agents.values():
            agent.behaviour = "good"
        plane.kubectl("delete", "tuningprofile", "refused")


def halted(plane: ControlPlane, name: str) -> dict[str, Any] | None:
    found = condition(plane, name, "RolledOut")
    return found if found.get("reason") == "FailureThreshold" else None


def test_all_nodes_means_all_and_status_is_true_of_what_is(
    plane: ControlPlane, api: KubeApi, agents: dict[str, SimulatedAgent]
) -> None:
    wait_for("baseline", lambda: all(agent.baseline for agent in agents.values()), 60)
    assert post(api, "everything", {"allNodes": True, "priority": 5, "tune": TUNE, "rollout": {"soakSeconds": 1}}) == ""
    wait_for("Done", lambda: condition(plane, "everything", "RolledOut").get("status") == "True", 60)
    assert {item["spec"]["profile"] for item in plane.get("nodetunings")["items"]} == {"everything"}
    # The loser of a tie governs no node, is not rolled out, and both say who the other is.
    assert post(api, "tied", {"allNodes": True, "priority": 5, "tune": TUNE}) == ""
    wait_for("tie", lambda: "everything" in condition(plane, "tied", "Conflict").get("message", ""), 20)
    wait_for("tie", lambda: "tied" in condition(plane, "everything", "Conflict").get("message", ""), 20)
    assert condition(plane, "tied", "RolledOut")["status"] == "False"
    # An edit that changes no verdict moves observedGeneration all the same.
    plane.kubectl("patch", "tuningprofile", "everything", "--type=merge", "-p", '{"spec":{"rollout":{"canary":0}}}')
    for kind in ("Accepted", "RolledOut", "Conflict"):
        wait_for(kind, lambda kind=kind: is_current(plane, "everything", kind), 20)
    plane.kubectl("wait", "tuningprofile/everything", "--for=condition=RolledOut", "--timeout=20s")
    # A spec that is not accepted is not rolled out, whatever its nodes have.
    plane.kubectl("patch", "tuningprofile", "everything", "--type=merge", "-p", '{"spec":{"tune":{"sysctI":{}}}}')
    wait_for("NotAccepted", lambda: condition(plane, "everything", "RolledOut").get("reason") == "NotAccepted", 20)
    assert all(agent.revision for agent in agents.values())


def is_current(plane: ControlPlane, name: str, kind: str) -> bool:
    generation = plane.get("tuningprofile", name)["metadata"]["generation"]
    return bool(condition(plane, name, kind).get("observedGeneration") == generation)
