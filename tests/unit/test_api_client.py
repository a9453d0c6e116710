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


def test_a_pod_uses_its_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked: list[str] = []
    contexts: list[str | None] = []
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, token="abc"))
    monkeypatch.setattr(api_client.paths, "exists", lambda path: looked.append(path) or True)
    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile=None: contexts.append(cafile) or real())
    found = api_client.credentials()
    assert isinstance(found.context, ssl.SSLContext) and found.context.verify_mode is ssl.CERT_REQUIRED
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert (found.host, found.port, found.token_file) == ("10.0.0.1", 443, f"{folder[1:]}/token")
    assert looked == [f"{folder}/token"] and contexts == [f"{folder}/ca.crt"]
    # Without a token in the pod, or outside one, the kubeconfig.
    monkeypatch.setattr(api_client.paths, "exists", lambda _: False)
    assert api_client.credentials().token == "abc"
    monkeypatch.setattr(api_client.paths, "exists", lambda _: True)
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT")
    assert api_client.credentials().token == "abc"


def test_the_token_of_a_pod_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "token"
    found = Credentials("h", 443, ssl.create_default_context(), token_file=str(path), token="not this one")
    for token in ("first", "second"):
        path.write_text(token)
        assert found.headers() == {"Authorization": f"Bearer {token}"}
    assert Credentials("h", 443, ssl.create_default_context()).headers() == {}


def test_a_server_without_a_port_and_with_a_certificate_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    real = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile=None: seen.append(cafile) or real())
    path = kubeconfig(tmp_path, token="abc")
    document = yaml.safe_load(Path(path).read_text())
    document["clusters"][0]["cluster"] = {"server": "https://api.example", "certificate-authority": "/etc/ca.crt"}
    Path(path).write_text(yaml.safe_dump(document))
    found = from_kubeconfig(path)
    assert (found.host, found.port, seen) == ("api.example", 443, ["/etc/ca.crt"])
    assert isinstance(found.context, ssl.SSLContext) and found.context.verify_mode is ssl.CERT_REQUIRED
    document["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(b"not this").decode()
    document["clusters"][0]["cluster"]["certificate-authority"] = 7
    Path(path).write_text(yaml.safe_dump(document))
    from_kubeconfig(path)
    # What stands in the kubeconfig itself is preferred to a path, as kubectl does.
    assert str(seen[-1]).startswith(tempfile.gettempdir()) and not os.path.exists(str(seen[-1]))
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    Path(path).write_text(yaml.safe_dump(document))
    from_kubeconfig(path)
    assert seen[-1] is None


def test_one_half_of_a_client_certificate_is_none(tmp_path: Path) -> None:
    assert from_kubeconfig(kubeconfig(tmp_path, **{"client-certificate": "/nosuch"})).token is None
    with pytest.raises(UsageError, match="KUBECONFIG"):
        from_kubeconfig(kubeconfig(tmp_path, **{"client-certificate": "/nosuch", "client-key": "/nosuch"}))


def test_calls_say_what_they_send_and_take(served: Any) -> None:
    api, connection = served(Answer(201, b"{}"))
    api.call("POST", "/x", {"a": 1})
    assert connection.sent == (
        "POST",
        "/x",
        b'{"a": 1}',
        {"Accept": "application/json", "Authorization": "Bearer t0ken", "Content-Type": "application/json"},
    )
    api, connection = served(Answer(200, b"{}"))
    api.call("GET", "/x")
    assert connection.sent[2] is None and "Content-Type" not in connection.sent[3]


@pytest.mark.parametrize(
    ("status", "body", "headers", "told", "after"),
    [
        (299, b"{}", {}, None, None),
        (300, b"{}", {}, "API server: 300: ", None),
        (429, b'{"message": "slow down"}', {"Retry-After": "2"}, "API server: 429: slow down", 2.0),
        (429, b"{}", {"Retry-After": "Fri, 01 Jan 2027 00:00:00 GMT"}, "API server: 429: ", None),
        (500, b"x" * 999, {}, f"API server: 500: {'x' * 200}", None),
        (500, b'{"message": "%s"}' % (b"y" * 999), {}, f"API server: 500: {'y' * 500}", None),
        (500, b"[]", {}, "API server: 500: []", None),
        (502, b"\xff", {}, "API server: 502: \ufffd", None),
    ],
)
def test_a_refusal_is_told(served: Any, status: int, body: bytes, headers: Any, told: str | None, after: Any) -> None:
    api, _ = served(Answer(status, body, headers))
    if told is None:
        assert api.call("GET", "/x") == {}
        return
    with pytest.raises(ApiFailed) as failed:
        api.call("GET", "/x")
    assert str(failed.value) == told and (failed.value.status, failed.value.retry_after_s) == (status, after)


def test_an_answer_may_be_as_large_as_the_limit(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "BODY_LIMIT_BYTES", 8)
    assert served(Answer(200, b'{"a": 1}'))[0].call("GET", "/x") == {"a": 1}
    with pytest.raises(ApiFailed, match=r"answer to /x is larger than 8 bytes"):
        served(Answer(200, b'{"a": 12}'))[0].call("GET", "/x")
    with pytest.raises(ApiFailed, match=r"answer to /x is not a JSON object"):
        served(Answer(200, b"[1]"))[0].call("GET", "/x")


def test_a_watch_asks_for_its_object_alone(served: Any) -> None:
    api, connection = served(Answer(200, b""))
    assert list(api.watch("/nodetunings", "n/1", "7", 240)) == []
    method, path, body, headers = connection.sent
    assert (method, body, headers) == ("GET", None, {"Authorization": "Bearer t0ken"})
    assert path == (
        "/nodetunings?watch=1&allowWatchBookmarks=true&timeoutSeconds=240&fieldSelector=metadata.name%3Dn/1&resourceVersion=7"
    )
    assert connection.is_closed


def test_a_watch_that_is_refused_says_why(served: Any) -> None:
    with pytest.raises(ApiFailed) as failed:
        list(served(Answer(403, b'{"message": "no"}'))[0].watch("/x", "n", "5", 9))
    assert str(failed.value) == "API server: 403: no"
    with pytest.raises(ApiFailed, match="API server: 300: "):
        list(served(Answer(300, b"{}"))[0].watch("/x", "n", "5", 9))
    with pytest.raises(ApiFailed, match="API server: unreachable: it is away"):
        list(served(OSError("it is away"))[0].watch("/x", "n", "5", 9))
    with pytest.raises(ApiFailed) as failed:
        list(served(Answer(200, b'{"type": "ERROR", "object": {}}\n'))[0].watch("/x", "n", "5", 9))
    assert str(failed.value) == "API server: unreachable: watch error"


def test_connections_have_a_time_limit_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int, float, object]] = []

    class Made(Connection):
        def __init__(self, host: str, port: int, timeout: float, context: object) -> None:
            made.append((host, port, timeout, context))
            super().__init__(Answer(200, b"{}"))

    monkeypatch.setattr(http.client, "HTTPSConnection", Made)
    context = ssl.create_default_context()
    api = KubeApi(Credentials("h", 6443, context))
    api.call("GET", "/x")
    with pytest.raises(ApiFailed):
        list(api.watch("/x", "n", "5", 240))
    assert made == [("h", 6443, api_client.TIMEOUT_S, context), ("h", 6443, 255, context)]
