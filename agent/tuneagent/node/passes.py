"""One pass of the daemon: observe, repair if the profile says so, say what was found."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from tuneagent.contracts.outcome import Applied
from tuneagent.contracts.plan import Change
from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.assess import Assessment
from tuneagent.engine.host_tuner import HOLD_PATH, HostTuner, repeats
from tuneagent.errors import TuneError
from tuneagent.node.log import log
from tuneagent.node.metrics import Metrics

# Part of the interval by which passes are spread, so that a fleet does not move in step.
JITTER = 0.1
BACKOFF_LIMIT_S = 300.0
# Changes named in one line of the log.
DUE_SHOWN = 100


@dataclass(frozen=True)
class Pass:
    """What one pass found and did."""

    report: Report
    # What was observed, before anything was written.
    judged: list[Assessment]
    applied: Applied | None = None
    # Findings before anything was written.
    drifted: tuple[Finding, ...] = ()


def run_pass(
    session: HostTuner,
    stop: threading.Event,
    metrics: Metrics,
    limit: Disruption = Disruption.LIVE,
    *,
    again: bool = False,
) -> Pass:
    """Observe, and repair if the profile says so and nothing holds. `again`: see HostTuner.apply. Raises TuneError."""
    started = time.monotonic()
    done = _pass(session, stop, limit, again=again)
    for outcome in done.applied.results if done.applied else ():
        metrics.changed(outcome.result)
    metrics.passed(done.report, session.host.now(), time.monotonic() - started)
    return done


def log_failure(error: Exception) -> None:
    """Say that a pass failed; for what is no error of ours, where in the code."""
    known = isinstance(error, TuneError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    log.error("pass failed", extra={"fields": {"error": text}}, exc_info=None if known else error)


def _pass(session: HostTuner, stop: threading.Event, limit: Disruption, *, again: bool) -> Pass:
    judged = session.observe()
    report = session.report(judged)
    # What a profile that says nothing means here; in a cluster the operator writes the word into each revision.
    drift = session.profile.spec.drift or "report"
    held = session.host.files.exists(HOLD_PATH)
    if drift != "repair" or held or session.pending() is not None:
        return Pass(report, judged)
    plan = session.plan_of(judged)
    repeated = repeats(plan, session.journal.held()) if again else set()
    due = [one for one in plan.changes if one.disruption.rank <= limit.rank or (one.tunable, one.subject) in repeated]
    if not due:
        return Pass(report, judged)
    told = [_due_fields(change) for change in due[:DUE_SHOWN]]
    log.info("about to write", extra={"fields": {"count": len(due), "changes": told}})
    applied = session.apply(limit=limit, again=again, replace=True, stop=stop.is_set)
    for outcome in applied.results:
        level = logging.WARNING if outcome.result == "failed" else logging.INFO
        finding = next(
            (f for f in report.findings if (f.tunable, f.subject) == (outcome.tunable, outcome.subject)), None
        )
        log.log(level, "change", extra={"fields": _change_fields(outcome, finding)})
    drifted = tuple(finding for finding in report.findings if finding.verdict is Verdict.DRIFTED)
    return Pass(applied.report, judged, applied, drifted)


def _due_fields(change: Change) -> dict[str, Any]:
    """What is about to be written, said before it is."""
    return {
        "tunable": change.tunable,
        "subject": change.subject,
        "found": change.prior.get("live"),
        "wanted": change.desired,
        "kept_by": change.persistence,
    }


def _change_fields(outcome: Any, finding: Finding | None) -> dict[str, Any]:
    return {
        "tunable": outcome.tunable,
        "subject": outcome.subject,
        "result": outcome.result,
        "reason": outcome.reason,
        "was": finding.observed if finding else None,
        "wanted": finding.desired if finding else None,
    }


def open_findings(report: Report) -> list[Finding]:
    """Findings that are not as wanted, worst first."""
    chosen = [finding for finding in report.findings if finding.is_open or finding.verdict is Verdict.ACCEPTED]
    return sorted(chosen, key=lambda finding: (-finding.severity.rank, finding.tunable, finding.subject))


def next_wait_s(interval_s: float, failures: int, until_deadline_s: float | None = None) -> float:
    """Seconds to the next pass: the interval with jitter, longer after failures, never past a deadline to come."""
    wait = min(interval_s * 2**failures, BACKOFF_LIMIT_S) if failures else interval_s
    # Jitter spreads load; nothing secret depends on it.
    wait *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311
    # What was due in the pass just made and failed is tried again like any other failure.
    if until_deadline_s is None or until_deadline_s <= 0:
        return wait
    return max(min(wait, until_deadline_s), 0.05)
