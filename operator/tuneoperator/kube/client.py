"""Transport to the API server on the official client: its configuration, authentication and TLS, raw bytes in and out.

The only module that imports `kubernetes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import kubernetes
import urllib3

TIMEOUT_S = 30.0


class ApiFailed(Exception):
    """The API server refused, or could not be reached (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"API server: {status or 'unreachable'}: {message}")


class Api:
    """Calls with a time limit each; answers are JSON bytes."""

    def __init__(self) -> None:
        try:
            kubernetes.config.load_incluster_config()
        except kubernetes.config.ConfigException:
            kubernetes.config.load_kube_config()
        self._client = kubernetes.client.ApiClient()
        self._configuration = self._client.configuration
        self._pool = self._client.rest_client.pool_manager

    def _headers(self) -> dict[str, str]:
        if self._configuration.refresh_api_key_hook is not None:
            # Tokens of service accounts rotate; the hook reads the file again.
            self._configuration.refresh_api_key_hook(self._configuration)
        token = self._configuration.get_api_key_with_prefix("authorization")
        token = token or self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Accept": "application/json", **({"Authorization": token} if token else {})}

    def _request(
        self,
        method: str,
        path: str,
        timeout: urllib3.Timeout,
        *,
        stream: bool = False,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = {**self._headers(), **({"Content-Type": content_type} if content_type else {})}
        url = self._configuration.host.rstrip("/") + path
        try:
            answer: urllib3.BaseHTTPResponse = self._pool.request(
                method, url, headers=headers, body=body, timeout=timeout, preload_content=not stream, retries=False
            )
            return answer
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiFailed(0, str(error)) from None

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> bytes:
        """One request. Raises ApiFailed."""
        given = None if body is None else json.dumps(body).encode()
        kind = None if body is None else content_type
        answer = self._request(method, path, urllib3.Timeout(total=TIMEOUT_S), body=given, content_type=kind)
        data: bytes = answer.data
        if answer.status >= 300:
            raise ApiFailed(answer.status, _message(data))
        return data

    def patch(self, path: str, body: object) -> bytes:
        """Merge patch."""
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def watch(self, path: str, query: dict[str, str], timeout_s: int) -> Iterator[bytes]:
        """Lines of a watch, each one event."""
        text = urlencode({**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_s)})
        timeout = urllib3.Timeout(connect=TIMEOUT_S, read=timeout_s + 15)
        answer = self._request("GET", f"{path}?{text}", timeout, stream=True)
        try:
            if answer.status >= 300:
                raise ApiFailed(answer.status, _message(answer.read(65536)))
            rest = b""
            for chunk in answer.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiFailed(0, str(error)) from None
        finally:
            answer.close()


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return raw[:200].decode(errors="replace")
