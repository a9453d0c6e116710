"""What a node's token may not do, asked of the real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from controlplane import ControlPlane
from simulated import TUNINGS, make_node
from tuneagent.node.api_client import ApiFailed, KubeApi


def _tuning(plane: ControlPlane, name: str) -> None:
    body = {
        "apiVersion": "tuneagent.dev/v1alpha1",
        "kind": "NodeTuning",
        "metadata": {"name": name},
        "spec": {"profile": "p", "desired": "Profile"},
    }
    plane.kubectl("create", "-f", "-", stdin=json.dumps(body))


@pytest.fixture(scope="module")
def agent(plane: ControlPlane) -> Iterator[KubeApi]:
    credentials = make_node(plane, "adm-one", {"tier": "admission"})
    make_node(plane, "adm-two", {"tier": "admission"})
    for name in ("adm-one", "adm-two"):
        _tuning(plane, name)
        status = {"status": {"rollout": {"phase": "Waiting", "reason": "set by the operator"}}}
        plane.kubectl("patch", "nodetuning", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    yield KubeApi(credentials)
    plane.kubectl("delete", "nodetuning", "adm-one", "adm-two")
    plane.kubectl("delete", "node", "adm-one", "adm-two")


def test_own_status_may_be_written(agent: KubeApi) -> None:
    found = agent.patch(f"{TUNINGS}/adm-one/status", {"status": {"node": {"revision": "r1"}}})
    assert found["status"]["node"]["revision"] == "r1"
    assert found["status"]["rollout"]["phase"] == "Waiting"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{TUNINGS}/adm-two/status", {"status": {"node": {"revision": "forged"}}}),
        (f"{TUNINGS}/adm-one", {"spec": {"grant": {"digest": "x", "disruption": "reboot", "lifetimeSeconds": 900}}}),
        (f"{TUNINGS}/adm-one/status", {"status": {"rollout": {"phase": "Done"}}}),
        (f"{TUNINGS}/adm-one/status", {"status": {"rollout": None}}),
        (f"{TUNINGS}/adm-one/status", {"status": {"conditions": [{"type": "Accepted", "status": "True"}]}}),
    ],
    ids=["another node", "own spec", "own rollout", "rollout away", "own conditions"],
)
def test_everything_else_is_forbidden(agent: KubeApi, path: str, body: dict[str, object]) -> None:
    with pytest.raises(ApiFailed) as caught:
        agent.patch(path, body)
    assert caught.value.status in (403, 422), caught.value
    assert caught.value.status == 403 or "denied" in str(caught.value) or "belong" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/api/v1/nodes", "/api/v1/secrets", "/api/v1/pods", "/apis/tuneagent.dev/v1alpha1/tuningprofiles"]
)
def test_nothing_else_may_be_read(agent: KubeApi, path: str) -> None:
    with pytest.raises(ApiFailed) as caught:
        agent.get(path)
    assert caught.value.status == 403


def test_a_token_without_a_node_is_refused(plane: ControlPlane) -> None:
    from tuneagent.node.api_client import Credentials

    token = plane.kubectl("create", "token", "tuneagent-agent", "-n", "tuneagent-system").strip()
    import ssl

    context = ssl.create_default_context(cafile=str(plane.pki / "ca.crt"))
    from controlplane import API_PORT

    api = KubeApi(Credentials("127.0.0.1", API_PORT, context, token=token))
    with pytest.raises(ApiFailed) as caught:
        api.patch(f"{TUNINGS}/adm-one/status", {"status": {"node": {"revision": "forged"}}})
    assert caught.value.status in (403, 422)
