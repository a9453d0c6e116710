"""A report in the text format of node_exporter's textfile collector."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tuneagent.contracts.report import Report
from tuneagent.report.terminal import clean


def render(report: Report, now: float) -> str:
    """Counts by verdict, one sample for each open finding, and the time of the audit in seconds since 1970."""
    registry = CollectorRegistry()
    counts = Gauge(
        "tuneagent_audit_findings", "Settings by verdict at the last audit.", ["profile", "verdict"], registry=registry
    )
    for verdict, count in report.summary.items():
        counts.labels(clean(report.profile.name), verdict).set(count)
    labels = ["tunable", "subject", "verdict", "severity"]
    found = Gauge("tuneagent_audit_open", "A setting that is not as wanted, or not known.", labels, registry=registry)
    for finding in report.findings:
        if finding.is_open:
            found.labels(finding.tunable, clean(finding.subject), finding.verdict.value, finding.severity.value).set(1)
    Gauge("tuneagent_audit_timestamp_seconds", "When the audit ran.", registry=registry).set(now)
    return generate_latest(registry).decode().rstrip("\n")
