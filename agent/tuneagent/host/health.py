"""Metrics and health over HTTP, for Prometheus and for the kubelet's probes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from tuneagent.errors import UsageError

# Seconds that a client may take to send its request.
CLIENT_S = 10


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_S

    def log_message(self, *_: Any) -> None:
        """Log nothing: probes arrive every few seconds."""


def serve(address: str, registry: CollectorRegistry, checks: Mapping[str, Callable[[], str]]) -> None:
    """Serve at `ADDR:PORT`, or nothing for `off`: metrics, and for each path of `checks` 200, or 503 with the reason.

    Raises UsageError.
    """
    if address == "off":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--metrics {address}: wanted ADDR:PORT or off")
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        check = checks.get(environ.get("PATH_INFO", ""))
        if check is None:
            found: Iterable[bytes] = metrics(environ, start)
            return found
        reason = check()
        start("503 Service Unavailable" if reason else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{reason or 'ok'}\n".encode()]

    try:
        server = make_server(host.strip("[]"), int(port), answer, _Server, _Handler)
    except OSError as error:
        raise UsageError(f"--metrics {address}: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
