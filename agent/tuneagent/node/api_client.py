"""A small client of the Kubernetes API for one agent: get, watch, patch, on the standard library.

In a pod: the service account's token, read anew for each request since it rotates, and the cluster's CA.
Otherwise a kubeconfig with a token or client certificates, for tests and for developers.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote, urlsplit

import msgspec
import yaml

from tuneagent.errors import TuneError, UsageError
from tuneagent.host import paths
from tuneagent.host.files import Files
from tuneagent.host.processes import environment

ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_S = 30.0
BODY_LIMIT_BYTES = 4 * 1024 * 1024
LINE_LIMIT_BYTES = 2 * 1024 * 1024


class ApiFailed(TuneError):
    """The API server refused, or could not be reached (`status` 0)."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"API server: {status or 'unreachable'}: {message}")


class Credentials(msgspec.Struct, frozen=True):
    """Where the API server is, and the credentials to use. TLS is always verified."""

    host: str
    port: int
    context: ssl.SSLContext
    token_file: str | None = None
    token: str | None = None

    def headers(self) -> dict[str, str]:
        """Authorization, with the token as it is now."""
        token = Files("/").read(self.token_file) if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def credentials() -> Credentials:
    """From the pod, or from KUBECONFIG. Raises UsageError where there is neither."""
    host, port = environment("KUBERNETES_SERVICE_HOST"), environment("KUBERNETES_SERVICE_PORT")
    if host and port and paths.exists(f"/{ACCOUNT}/token"):
        context = ssl.create_default_context(cafile=f"/{ACCOUNT}/ca.crt")
        return Credentials(host, int(port), context, token_file=f"{ACCOUNT}/token")
    path = environment("KUBECONFIG")
    if not path:
        raise UsageError("--node: neither in a pod with a service account, nor is KUBECONFIG set")
    return from_kubeconfig(path)


def from_kubeconfig(path: str) -> Credentials:
    """Current context of a kubeconfig; tokens and client certificates, no exec plugins."""
    try:
        document = yaml.safe_load(Files("/").read(paths.absolute(path)))
        by_name = {kind: {item["name"]: item for item in document[kind]} for kind in ("clusters", "users", "contexts")}
        chosen = by_name["contexts"][document["current-context"]]["context"]
        cluster = by_name["clusters"][chosen["cluster"]]["cluster"]
        user = by_name["users"][chosen["user"]]["user"]
        url = urlsplit(cluster["server"])
        with contextlib.ExitStack() as stack:
            context = ssl.create_default_context(cafile=_file(cluster, "certificate-authority", stack))
            certificate, key = _file(user, "client-certificate", stack), _file(user, "client-key", stack)
            if certificate and key:
                context.load_cert_chain(certificate, key)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, TuneError) as error:
        raise UsageError(f"KUBECONFIG {path}: {error}") from None
    return Credentials(url.hostname or "", url.port or 443, context, token=user.get("token"))


def _file(entry: dict[str, object], name: str, stack: contextlib.ExitStack) -> str | None:
    """Path of a certificate or key. One that stands in the kubeconfig itself is a file only until `stack` closes."""
    given, path = entry.get(f"{name}-data"), entry.get(name)
    if isinstance(given, str):
        return stack.enter_context(paths.temporary_file(base64.b64decode(given)))
    return path if isinstance(path, str) else None


# An object of the API, as decoded JSON.
Document = dict[str, object]


class WatchedMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Metadata of a watched object."""

    resource_version: str = ""


class Watched(msgspec.Struct, frozen=True):
    """The object of an event; of an error its code and message."""

    metadata: WatchedMeta = WatchedMeta()
    code: int = 0
    message: str = ""


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: Watched


class KubeApi:
    """Calls with a time limit each. Paths are those of the API, without the server."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def _connection(self, timeout_s: float) -> http.client.HTTPSConnection:
        one = self._credentials
        return http.client.HTTPSConnection(one.host, one.port, timeout=timeout_s, context=one.context)

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Document:
        """One request and its JSON answer, an object. Raises ApiFailed."""
        headers = {"Accept": "application/json", **self._credentials.headers()}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        with closing(self._connection(TIMEOUT_S)) as connection:
            try:
                connection.request(method, path, body=data, headers=headers)
                with closing(connection.getresponse()) as answer:
                    raw = answer.read(BODY_LIMIT_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                raise ApiFailed(0, str(error)) from None
        if len(raw) > BODY_LIMIT_BYTES:
            raise ApiFailed(0, f"answer to {path} is larger than {BODY_LIMIT_BYTES} bytes")
        if answer.status >= 300:
            after = answer.getheader("Retry-After") or ""
            raise ApiFailed(answer.status, _message(raw), float(after) if after.isdigit() else None)
        try:
            return msgspec.json.decode(raw, type=Document)
        except msgspec.MsgspecError as error:
            raise ApiFailed(0, f"answer to {path} is not a JSON object: {error}") from None

    def get(self, path: str) -> Document | None:
        """An object, None where it does not exist."""
        try:
            return self.call("GET", path)
        except ApiFailed as error:
            if error.status == 404:
                return None
            raise

    def patch(self, path: str, body: object) -> Document:
        """Merge patch."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def watch(self, path: str, name: str, version: str, timeout_s: int) -> Iterator[WatchEvent]:
        """Events of one object from `version` on, for at most `timeout_s`. Raises ApiFailed, 410 among others."""
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={timeout_s}"
        query += f"&fieldSelector=metadata.name%3D{quote(name)}&resourceVersion={quote(version)}"
        with closing(self._connection(timeout_s + 15)) as connection:
            try:
                connection.request("GET", f"{path}?{query}", headers=self._credentials.headers())
                with closing(connection.getresponse()) as answer:
                    if answer.status >= 300:
                        raise ApiFailed(answer.status, _message(answer.read(65536)))
                    while line := answer.readline(LINE_LIMIT_BYTES):
                        yield _event(line)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise ApiFailed(0, str(error)) from None


def _event(line: bytes) -> WatchEvent:
    event = msgspec.json.decode(line, type=WatchEvent)
    if event.type == "ERROR":
        raise ApiFailed(event.object.code, event.object.message or "watch error")
    return event


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return raw[:200].decode(errors="replace")
