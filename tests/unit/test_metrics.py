"""What a scrape of an agent sees, word for word, and what its probes answer."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from tuneagent import __version__
from tuneagent.contracts.report import HostName, ProfileName, Report
from tuneagent.node import metrics as module
from tuneagent.node.metrics import Metrics


def scraped(found: Metrics) -> str:
    """The exposition, without the lines that say when a counter was made."""
    lines = generate_latest(found._registry).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line)


def test_nothing_is_claimed_before_the_first_pass() -> None:
    assert (
        scraped(Metrics())
        == f"""\
# HELP tuneagent_info Version of the agent.
# TYPE tuneagent_info gauge
tuneagent_info{{version="{__version__}"}} 1.0
# HELP tuneagent_findings Settings by verdict.
# TYPE tuneagent_findings gauge
# HELP tuneagent_last_pass_timestamp_seconds When the last pass ended.
# TYPE tuneagent_last_pass_timestamp_seconds gauge
tuneagent_last_pass_timestamp_seconds 0.0
# HELP tuneagent_last_pass_duration_seconds How long the last pass took.
# TYPE tuneagent_last_pass_duration_seconds gauge
tuneagent_last_pass_duration_seconds 0.0
# HELP tuneagent_changes_total Changes by result.
# TYPE tuneagent_changes_total counter
# HELP tuneagent_profile_stale 1 while the profile cannot be read.
# TYPE tuneagent_profile_stale gauge
tuneagent_profile_stale 0.0
# HELP tuneagent_api_writes_total Writes to the API server.
# TYPE tuneagent_api_writes_total counter
# HELP tuneagent_pass_failures_total Passes that ended with an error.
# TYPE tuneagent_pass_failures_total counter
tuneagent_pass_failures_total 0.0"""
    )


def test_a_scrape_says_what_passes_did() -> None:
    found = Metrics()
    report = Report(
        tool={}, host=HostName(), profile=ProfileName("p", "r"), summary={"converged": 3, "drifted": 1}, findings=()
    )
    found.passed(report, 1700000000.5, 0.25)
    found.changed("verified")
    found.changed("verified")
    found.changed("failed")
    found.wrote("status")
    found.wrote("event")
    found.stale(True)
    found.failed()
    told = scraped(found)
    for line in (
        'tuneagent_findings{verdict="converged"} 3.0',
        'tuneagent_findings{verdict="drifted"} 1.0',
        "tuneagent_last_pass_timestamp_seconds 1.7000000005e+09",
        "tuneagent_last_pass_duration_seconds 0.25",
        'tuneagent_changes_total{result="verified"} 2.0',
        'tuneagent_changes_total{result="failed"} 1.0',
        'tuneagent_api_writes_total{kind="status"} 1.0',
        'tuneagent_api_writes_total{kind="event"} 1.0',
        "tuneagent_profile_stale 1.0",
        "tuneagent_pass_failures_total 1.0",
    ):
        assert line in told.splitlines(), told
    found.stale(False)
    assert "tuneagent_profile_stale 0.0" in scraped(found).splitlines()


def test_ready_after_a_pass_and_healthy_while_passes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    found = Metrics()
    assert found.unready() == "the first pass has not ended" and found.unhealthy() == ""
    now[0] += module.STUCK_S
    assert found.unhealthy() == ""
    now[0] += 1
    assert found.unhealthy() == "the pass under way has taken 1801 s"
    found.beat()
    assert found.unready() == "" and found.unhealthy() == ""


def test_probes_and_scrapes_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, "serve", lambda *given: asked.extend(given))
    found = Metrics()
    found.serve("127.0.0.1:9639")
    address, registry, probes = asked
    assert address == "127.0.0.1:9639" and registry is found._registry
    assert probes == {"/healthz": found.unhealthy, "/readyz": found.unready}
