"""The agent's API client without a server: answers, refusals, cuts, and where its credentials come from."""

from __future__ import annotations

import base64
import copy
import http.client
import json
import os
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tuneagent.errors import UsageError
from tuneagent.node import api_client
from tuneagent.node.api_client import ApiFailed, Credentials, KubeApi, from_kubeconfig


class Answer:
    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}

    def read(self, size: int) -> bytes:
        taken, self.body = self.body[:size], self.body[size:]
        return taken

    def readline(self, size: int) -> bytes:
        line, mark, rest = self.body.partition(b"\n")
        self.body = rest
        return (line + mark)[:size]

    def getheader(self, name: str) -> str | None:
        return self.headers.get(name)

    def close(self) -> None:
        pass


class Connection:
    """One connection that gives one answer, or fails."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.sent: tuple[Any, ...] = ()
        self.is_closed = False

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> None:
        self.sent = (method, path, body, headers)

    def getresponse(self) -> Answer:
        if isinstance(self.answer, Exception):
            raise self.answer
        # Reading uses an answer up.
        return copy.copy(self.answer)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Any:
    def serve(answer: Answer | Exception) -> tuple[KubeApi, Connection]:
        connection = Connection(answer)
        api = KubeApi(Credentials("h", 443, ssl.create_default_context(), token="t0ken"))
        monkeypatch.setattr(api, "_connection", lambda _: connection)
        return api, connection

    return serve


def test_an_object_is_read_with_the_token(served: Any) -> None:
    api, connection = served(Answer(200, b'{"a": 1}'))
    assert api.get("/x") == {"a": 1}
    assert connection.sent[:2] == ("GET", "/x") and connection.is_closed
    assert connection.sent[3]["Authorization"] == "Bearer t0ken"


def test_what_does_not_exist_is_none_and_other_refusals_are_errors(served: Any) -> None:
    assert served(Answer(404, b"{}"))[0].get("/x") is None
    for status in (401, 403, 409, 410, 422, 429, 500, 503):
        api, _ = served(Answer(status, json.dumps({"message": "no"}).encode(), {"Retry-After": "7"}))
        with pytest.raises(ApiFailed, match=f"{status}: no") as told:
            api.get("/x")
        assert (told.value.status, told.value.retry_after_s) == (status, 7.0)


@pytest.mark.parametrize(
    "answer",
    [OSError("reset"), TimeoutError("timed out"), http.client.RemoteDisconnected("gone"), Answer(200, b"<html>"),
     Answer(200, b"x" * (api_client.BODY_LIMIT_BYTES + 1))],
    ids=["reset", "slow", "cut", "no JSON", "too large"],
)  # fmt: skip
def test_what_is_no_answer_is_no_server(answer: Any, served: Any) -> None:
    api, connection = served(answer)
    with pytest.raises(ApiFailed) as told:
        api.get("/x")
    assert told.value.status == 0 and connection.is_closed


def test_a_patch_is_a_merge_patch(served: Any) -> None:
    api, connection = served(Answer(200, b"{}"))
    api.patch("/x/status", {"status": {"a": None}})
    method, path, body, headers = connection.sent
    assert (method, path, json.loads(body)) == ("PATCH", "/x/status", {"status": {"a": None}})
    assert headers["Content-Type"] == "application/merge-patch+json"


def test_a_watch_gives_events_until_it_is_cut(served: Any) -> None:
    meta = {"resourceVersion": "7", "name": "n 1"}
    lines = [{"type": "ADDED", "object": {"metadata": meta}}, {"type": "BOOKMARK", "object": {}}]
    api, connection = served(Answer(200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    assert [(one.type, one.object.metadata.resource_version) for one in api.watch("/x", "n 1", "5", 9)] == [
        ("ADDED", "7"),
        ("BOOKMARK", ""),
    ]
    assert "fieldSelector=metadata.name%3Dn%201" in connection.sent[1] and "resourceVersion=5" in connection.sent[1]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(410, b'{"message": "gone"}'), 410),
        (Answer(200, b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n'), 410),
        (Answer(200, b'{"type": "ADDED", "object": {"cut'), 0),
        (OSError("reset"), 0),
    ],
)
def test_a_watch_that_ends_badly_says_how(answer: Any, status: int, served: Any) -> None:
    with pytest.raises(ApiFailed) as told:
        list(served(answer)[0].watch("/x", "n", "5", 9))
    assert told.value.status == status


def kubeconfig(folder: Path, **user: Any) -> str:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    found = from_kubeconfig(kubeconfig(tmp_path, token="abc"))
    assert (found.host, found.port, found.headers()) == ("127.0.0.1", 6443, {"Authorization": "Bearer abc"})


def test_a_key_that_stands_in_a_kubeconfig_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/CN=x"]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    coded = {name: base64.b64encode((tmp_path / name).read_bytes()).decode() for name in ("k", "c")}
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    from_kubeconfig(kubeconfig(tmp_path, **{"client-certificate-data": coded["c"], "client-key-data": coded["k"]}))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("content", ["", "[]", "{clusters: []}", "{", "clusters: &a [*a]"])
def test_a_kubeconfig_that_is_none_is_wrong_use(content: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(UsageError, match="KUBECONFIG"):
        from_kubeconfig(str(path))
    with pytest.raises(UsageError, match="KUBECONFIG"):
        from_kubeconfig(str(tmp_path / "nosuch"))


def test_without_a_pod_and_without_a_kubeconfig_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="--node"):
        api_client.credentials()
