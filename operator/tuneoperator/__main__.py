"""`tuneagent-operator`: threads that copy the cluster, one worker that decides, a Lease that says who may."""

from __future__ import annotations

import importlib.resources
import json
import logging
import os
import secrets
import signal
import sys
import threading
from typing import Any

import click
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from tuneoperator.cluster import Cluster, NotLeader
from tuneoperator.kube import Api, ApiFailed
from tuneoperator.lease import Elector
from tuneoperator.reconcile import ALL, Reconciler
from tuneoperator.state import NAMESPACE
from tuneoperator.workqueue import WorkQueue

log = logging.getLogger("tuneoperator")
RESYNC_S = 60.0


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**line, **getattr(record, "fields", {})}, default=str)


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def tune_schema() -> dict[str, Any]:
    """The generated schema of `spec.tune`: names that this version knows."""
    text = (importlib.resources.files("tuneagent") / "schemas" / "tune.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@click.command()
@click.option("--metrics", metavar="ADDR:PORT", default="127.0.0.1:9633", show_default=True, help="`off` for none.")
@click.option("--poll", "poll_s", type=float, default=5.0, show_default=True, help="Seconds between looks at a drain.")
@click.option(
    "--apply-limit", "apply_limit_s", type=float, default=600.0, show_default=True,
    help="Seconds that a node has for its live changes.",
)  # fmt: skip
def main(metrics: str, poll_s: float, apply_limit_s: float) -> None:
    """Decide which node may change when."""
    _set_up_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    api = Api()
    queue = WorkQueue()
    identity = f"{os.environ.get('HOSTNAME', 'operator')}-{secrets.token_hex(4)}"
    elector = Elector(api, NAMESPACE, identity)
    registry = CollectorRegistry()
    leading = Gauge("tuneagent_operator_leader", "1 while this replica leads.", registry=registry)
    passes = Counter("tuneagent_operator_reconciles", "Reconciles by result.", ["result"], registry=registry)
    if metrics != "off":
        host, _, port = metrics.rpartition(":")
        start_http_server(int(port), host, registry=registry)
    # A short delay gathers bursts: one look serves many events.
    cluster = Cluster(api, lambda: queue.add(ALL, 0.1), lambda: elector.is_leader, poll_s)
    reconciler = Reconciler(cluster, queue, tune_schema(), apply_limit_s=apply_limit_s)
    for target in (elector.run, *(store.run for store in cluster.stores)):
        threading.Thread(target=target, args=(stop,), daemon=True).start()
    while not stop.is_set():
        leading.set(int(elector.is_leader))
        if not elector.is_leader:
            stop.wait(0.5)
            queue.add(ALL)
            continue
        name = queue.take(1.0)
        if name is not None:
            passes.labels(_reconcile(reconciler, queue, name)).inc()
    log.info("stopped")


def _reconcile(reconciler: Reconciler, queue: WorkQueue, name: str) -> str:
    try:
        reconciler.reconcile(name)
    except NotLeader:
        return "not leader"
    except ApiFailed as error:
        delay = queue.failed(name)
        log.warning("again later", extra={"fields": {"name": name, "error": str(error), "after_s": delay}})
        return "again"
    queue.succeeded(name)
    queue.add(ALL, RESYNC_S)
    return "done"


if __name__ == "__main__":
    main()
