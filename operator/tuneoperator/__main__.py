"""`tuneagent-operator`: threads that copy the cluster, a worker that decides, and a Lease that elects a leader."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import click
from prometheus_client import CollectorRegistry, Counter, Gauge
from tuneagent.errors import UsageError
from tuneagent.formats.json_log import log_as_json
from tuneagent.host.health import serve

from tuneoperator.controllers.reconcile import ALL, Reconciler, TimeLimits
from tuneoperator.controllers.workqueue import WorkQueue
from tuneoperator.decide.accept import Acceptance
from tuneoperator.decide.state import NAMESPACE
from tuneoperator.kube.client import Api, ApiFailed
from tuneoperator.kube.cluster import Cluster, NotLeader
from tuneoperator.kube.lease import Elector

log = logging.getLogger("tuneoperator")
RESYNC_S = 60.0
RECURSION_LIMIT, STACK_BYTES = 30_000, 64 << 20


@dataclass
class Threads:
    """Threads that must run as long as the process does: if one ends, the process ends."""

    stop: threading.Event
    died: list[str] = field(default_factory=list)
    running: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, target: Callable[[threading.Event], None]) -> None:
        """Run `target` until the stop event."""
        thread = threading.Thread(target=self._watched, args=(name, target), name=name, daemon=True)
        self.running.append(thread)
        thread.start()

    def _watched(self, name: str, target: Callable[[threading.Event], None]) -> None:
        try:
            target(self.stop)
        except BaseException:
            log.exception("thread ended", extra={"fields": {"thread": name}})
        if not self.stop.is_set():
            self.died.append(name)
            self.stop.set()


class Operator:
    """Everything that runs. It is created in one thread before any other thread starts."""

    def __init__(self, api: Api, registry: CollectorRegistry, *, poll_s: float = 5.0, limits: TimeLimits) -> None:
        self.stop = threading.Event()
        self.threads = Threads(self.stop)
        self.queue = WorkQueue()
        identity = f"{os.environ.get('HOSTNAME', 'operator')}-{secrets.token_hex(4)}"
        self.elector = Elector(api, NAMESPACE, identity)
        self._leading = Gauge("tuneagent_operator_leader", "1 while this replica leads.", registry=registry)
        self._passes = Counter("tuneagent_operator_reconciles", "Reconciles by result.", ["result"], registry=registry)
        # A short delay merges bursts: one pass handles many events.
        self.cluster = Cluster(api, lambda: self.queue.add(ALL, 0.1), lambda: self.elector.is_leader, poll_s)
        self.reconciler = Reconciler(self.cluster, self.queue, Acceptance(), limits=limits)

    def run(self) -> int:
        """Run until the stop event is set or a thread dies. Returns the exit code."""
        # An API server accepts documents nested 10,000 levels deep; one such object must not end a thread.
        sys.setrecursionlimit(RECURSION_LIMIT)
        threading.stack_size(STACK_BYTES)
        self.threads.start("lease", self.elector.run)
        for store in self.cluster.stores:
            self.threads.start(store.path, store.run)
        while not self.stop.is_set():
            self._leading.set(int(self.elector.is_leader))
            if not self.elector.is_leader:
                self.stop.wait(0.5)
                self.queue.add(ALL)
                continue
            name = self.queue.take(1.0)
            if name is not None:
                self._passes.labels(self._reconcile(name)).inc()
        # The lease thread releases the Lease; by now nothing more is written.
        self.threads.running[0].join(5.0)
        if self.threads.died:
            log.error("exiting because a thread died", extra={"fields": {"threads": self.threads.died}})
            return 1
        log.info("stopped")
        return 0

    def _reconcile(self, name: str) -> str:
        try:
            self.reconciler.reconcile(name)
        except NotLeader:
            return "not leader"
        except Exception as error:
            delay = self.queue.failed(name)
            fields = {"name": name, "error": f"{type(error).__name__}: {error}", "afterSeconds": delay}
            log.warning("retrying later", extra={"fields": fields}, exc_info=not isinstance(error, ApiFailed))
            return "again"
        self.queue.succeeded(name)
        self.queue.add(ALL, RESYNC_S)
        return "done"

    def unready(self) -> str:
        """Why this replica could not take over now; empty if it could."""
        return "" if self.cluster.synced or self.cluster.can_wind_down else "the copies of the cluster are incomplete"

    def unhealthy(self) -> str:
        """Why the process should be restarted; empty if it is healthy."""
        return f"threads have ended: {', '.join(self.threads.died)}" if self.threads.died else ""


@click.command()
@click.option("--metrics", metavar="ADDR:PORT", default="127.0.0.1:9633", show_default=True, help="`off` to disable.")
@click.option("--poll", "poll_s", type=float, default=5.0, show_default=True, help="Seconds between checks of a drain.")
@click.option(
    "--apply-limit", "apply_limit_s", type=float, default=600.0, show_default=True,
    help="Seconds a node has to make its live changes.",
)  # fmt: skip
@click.option(
    "--grant-limit", "grant_limit_s", type=float, default=1800.0, show_default=True,
    help="Seconds a node has to make the changes granted to it.",
)  # fmt: skip
def main(metrics: str, poll_s: float, apply_limit_s: float, grant_limit_s: float) -> None:
    """Decide which node may change when."""
    log_as_json(log)
    registry = CollectorRegistry()
    operator = Operator(Api(), registry, poll_s=poll_s, limits=TimeLimits(apply_limit_s, grant_limit_s))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: operator.stop.set())
    try:
        serve(metrics, registry, {"/healthz": operator.unhealthy, "/readyz": operator.unready})
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(operator.run())


if __name__ == "__main__":
    main()
