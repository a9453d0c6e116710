"""Prometheus metrics of one agent. No label for a CPU or an interrupt: counts only."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from tuneagent import __version__
from tuneagent.contracts.report import Report
from tuneagent.host.health import serve

# A pass may wait for a boot loader's program or for a GPU; longer than this it hangs.
STUCK_S = 1800.0


class Metrics:
    """What a scrape sees. Made for each daemon; nothing is global."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._began = False
        self._registry = CollectorRegistry()
        one = self._registry
        Gauge("tuneagent_info", "Version of the agent.", ["version"], registry=one).labels(__version__).set(1)
        self._findings = Gauge("tuneagent_findings", "Settings by verdict.", ["verdict"], registry=one)
        self._last = Gauge("tuneagent_last_pass_timestamp_seconds", "When the last pass ended.", registry=one)
        self._duration = Gauge("tuneagent_last_pass_duration_seconds", "How long the last pass took.", registry=one)
        self._changes = Counter("tuneagent_changes", "Changes by result.", ["result"], registry=one)
        self._stale = Gauge("tuneagent_profile_stale", "1 while the profile cannot be read.", registry=one)
        self._writes = Counter("tuneagent_api_writes", "Writes to the API server.", ["kind"], registry=one)
        self._failures = Counter("tuneagent_pass_failures", "Passes that ended with an error.", registry=one)

    def passed(self, report: Report, ended: float, duration_s: float) -> None:
        """A pass that ended."""
        for verdict, count in report.summary.items():
            self._findings.labels(verdict).set(count)
        self._last.set(ended)
        self._duration.set(duration_s)

    def changed(self, result: str) -> None:
        """One change with its result."""
        self._changes.labels(result).inc()

    def stale(self, is_stale: bool) -> None:
        """Whether the last good profile goes on because the newest cannot be read."""
        self._stale.set(int(is_stale))

    def wrote(self, kind: str) -> None:
        """A write to the API server."""
        self._writes.labels(kind).inc()

    def beat(self) -> None:
        """A pass has ended, well or not."""
        self._beat = time.monotonic()
        self._began = True

    def unready(self) -> str:
        """Why this agent is not ready: no pass has ended yet."""
        return "" if self._began else "the first pass has not ended"

    def unhealthy(self) -> str:
        """Why the agent should be started anew: a pass that does not end."""
        age = time.monotonic() - self._beat
        return f"the pass under way has taken {age:.0f} s" if age > STUCK_S else ""

    def failed(self) -> None:
        """A pass that raised."""
        self._failures.inc()

    def serve(self, address: str) -> None:
        """Answer scrapes and probes at `ADDR:PORT`; `off` for none. Raises UsageError."""
        serve(address, self._registry, {"/healthz": self.unhealthy, "/readyz": self.unready})
