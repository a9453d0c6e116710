"""The loop on a bare host: wake, read the profile, run the engine, say what was found. Limits and back-off."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tuneagent.confirmation import DAEMON_LOCK
from tuneagent.engine import Judged
from tuneagent.errors import TuneError
from tuneagent.metrics import Metrics
from tuneagent.model import Change, Disruption, Finding, Report, Verdict
from tuneagent.session import HOLD_PATH, Applied, Session, repeats
from tuneagent.tuning_profile import Profile

log = logging.getLogger("tuneagent")
# Part of the interval by which passes are spread, so that a fleet does not move in step.
JITTER = 0.1
BACKOFF_LIMIT_S = 300.0
# Changes named in one line of the log.
DUE_SHOWN = 100


class _JsonLines(logging.Formatter):
    """One JSON object a line; fields by `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({**line, **getattr(record, "fields", {})}, default=str)


def set_up_logging() -> None:
    """JSON lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextlib.contextmanager
def stop_event() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set: the tunable in hand is finished, nothing new begins."""
    stop = threading.Event()

    def note(number: int, frame: Any) -> None:
        del number, frame
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    # The profile is read at every pass: there is nothing to reload, and nothing to die of.
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Pass:
    """What one pass found and did."""

    report: Report
    # What was observed, before anything was written.
    judged: list[Judged]
    applied: Applied | None = None
    # Findings before anything was written.
    drifted: tuple[Finding, ...] = ()


def run_pass(
    session: Session,
    stop: threading.Event,
    metrics: Metrics,
    limit: Disruption = Disruption.LIVE,
    *,
    again: bool = False,
) -> Pass:
    """Observe, and repair if the profile says so and nothing holds. `again`: see Session.apply. Raises TuneError."""
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


def _pass(session: Session, stop: threading.Event, limit: Disruption, *, again: bool) -> Pass:
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


def serve_file(
    session: Session,
    load: Callable[[], Profile],
    interval_s: int,
    metrics_address: str,
) -> int:
    """Check and repair against a profile file, read anew at each pass, until SIGTERM.

    A profile that cannot be read changes nothing: the last good one goes on.
    """
    set_up_logging()
    metrics = Metrics()
    metrics.serve(metrics_address)
    session.state.make_folder(session.folder)
    current = replace(session, profile=load())
    current.specs()
    last = ""
    with stop_event() as stop, session.state.locked(f"{session.folder}/{DAEMON_LOCK}"):
        log.info("started", extra={"fields": _about(current)})
        failures = 0
        while not stop.is_set():
            current = _reloaded(current, load, metrics)
            try:
                _revert_if_due(current)
                done = run_pass(current, stop, metrics, again=True)
                last = _say_findings(done.report, last)
                failures = 0
            except Exception as error:  # nothing that a pass meets may end the daemon
                failures += 1
                metrics.failed()
                log_failure(error)
            metrics.beat()
            stop.wait(next_wait_s(interval_s, failures, _until_deadline(current)))
        log.info("stopped; everything stays as it is")
    return 0


def _about(session: Session) -> dict[str, Any]:
    """What the daemon follows, and what it will do about drift."""
    drift = session.profile.spec.drift or "report"
    does = {
        "report": "nothing is written; `drift: repair` in the profile would have settings written again",
        "repair": "settings of class live are written again where they are not as wanted",
        "freeze": "nothing is written",
    }
    profile = session.profile
    return {"profile": profile.name, "revision": profile.revision, "drift": drift, "does": does[drift]}


def next_wait_s(interval_s: float, failures: int, until_deadline_s: float | None = None) -> float:
    """Seconds to the next pass: the interval with jitter, longer after failures, never past a deadline to come."""
    wait = min(interval_s * 2**failures, BACKOFF_LIMIT_S) if failures else interval_s
    # Jitter spreads load; nothing secret depends on it.
    wait *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311
    # What was due in the pass just made and failed is tried again like any other failure.
    if until_deadline_s is None or until_deadline_s <= 0:
        return wait
    return max(min(wait, until_deadline_s), 0.05)


def _reloaded(session: Session, load: Callable[[], Profile], metrics: Metrics) -> Session:
    try:
        profile = load()
        changed = replace(session, profile=profile)
        if profile.revision != session.profile.revision:
            changed.specs()
            log.info("profile changed", extra={"fields": {"profile": profile.name, "revision": profile.revision}})
    except Exception as error:  # whatever the file holds, the last good profile goes on
        log.error("profile not read; the last good one goes on", extra={"fields": {"error": str(error)}})
        metrics.stale(True)
        return session
    metrics.stale(False)
    return changed


def _revert_if_due(session: Session) -> None:
    results = session.revert_unconfirmed()
    if results is not None:
        log.warning("not confirmed in time, went back", extra={"fields": {"settings": len(results)}})


def _until_deadline(session: Session) -> float | None:
    with contextlib.suppress(TuneError):
        pending = session.pending()
        if pending is not None:
            return pending.deadline - session.host.now()
    return None


def _say_findings(report: Report, last: str) -> str:
    """Log open findings when they are others than at the last pass."""
    chosen = open_findings(report)
    text = ";".join(f"{finding.tunable} {finding.subject} {finding.verdict.value}" for finding in chosen)
    if text != last:
        fields = {"summary": report.summary, "open": text.split(";")[:50] if text else []}
        log.info("findings", extra={"fields": fields})
    return text


def serve_cluster(session: Session, node: str, interval_s: int, metrics_address: str) -> int:
    """Check and repair as this node's NodeTuning says, until SIGTERM."""
    from tuneagent.node_agent import NodeAgent

    set_up_logging()
    metrics = Metrics()
    metrics.serve(metrics_address)
    session.state.make_folder(session.folder)
    with stop_event() as stop, session.state.locked(f"{session.folder}/{DAEMON_LOCK}"):
        agent = NodeAgent(session, node, metrics, stop, interval_s)
        agent.serve()
    return 1 if agent.died else 0
