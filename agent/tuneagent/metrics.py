"""Prometheus metrics of one agent. No label for a CPU or an interrupt: counts only."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from tuneagent import __version__
from tuneagent.errors import UsageError
from tuneagent.model import Report


class Metrics:
    """What a scrape sees. Made for each daemon; nothing is global."""

    def __init__(self) -> None:
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

    def failed(self) -> None:
        """A pass that raised."""
        self._failures.inc()

    def serve(self, address: str) -> None:
        """Answer scrapes at `ADDR:PORT`; `off` for none. Raises UsageError."""
        if address == "off":
            return
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise UsageError(f"--metrics {address}: wanted ADDR:PORT or off")
        try:
            start_http_server(int(port), host, registry=self._registry)
        except OSError as error:
            raise UsageError(f"--metrics {address}: {error.strerror}") from None
