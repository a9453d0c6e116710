"""One pass of the daemon: observe once, repair if the profile says so, say what was found."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

import msgspec

from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change
from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_assessment import HostAssessment
from tuneagent.engine.host_tuner import HOLD_PATH, ApplyResult, HostTuner, repeats
from tuneagent.errors import TuneError
from tuneagent.node.log import log
from tuneagent.node.metrics import Metrics

# Part of the interval by which passes are spread, so that a fleet does not move in step.
JITTER = 0.1
BACKOFF_LIMIT_S = 300.0
# Changes named in one line of the log.
DUE_SHOWN = 100
# The heaviest class of change that may be made, once it is known what is to be changed.
Limit = Callable[[HostAssessment], Disruption]


def live_only(found: HostAssessment) -> Disruption:
    """Nothing that disturbs anyone."""
    del found
    return Disruption.LIVE


class Pass(msgspec.Struct, frozen=True):
    """What one pass found, before anything was written, and did."""

    before: HostAssessment
    applied: ApplyResult | None = None

    @property
    def after(self) -> HostAssessment:
        """The host as the pass leaves it."""
        return self.applied.after if self.applied is not None else self.before

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each change."""
        return self.applied.outcomes if self.applied is not None else ()


def run_pass(
    tuner: HostTuner,
    stop: threading.Event,
    metrics: Metrics,
    limit: Limit = live_only,
    *,
    again: bool = False,
    may_write: bool = True,
) -> Pass:
    """Observe, and repair if the profile says so and nothing holds. `again`: see HostTuner.apply. Raises TuneError."""
    started = time.monotonic()
    found = tuner.observe()
    applied = _repaired(tuner, found, stop, limit, again=again) if may_write and _may_repair(tuner) else None
    done = Pass(found, applied)
    for outcome in done.outcomes:
        metrics.changed(outcome.result)
    metrics.passed(done.after.report, tuner.host.now(), time.monotonic() - started)
    return done


def _may_repair(tuner: HostTuner) -> bool:
    # What a profile that says nothing means here; in a cluster the operator writes the word into each revision.
    drift = tuner.profile.spec.drift or "report"
    return drift == "repair" and not tuner.host.files.exists(HOLD_PATH) and tuner.pending() is None


def _repaired(
    tuner: HostTuner, found: HostAssessment, stop: threading.Event, limit: Limit, *, again: bool
) -> ApplyResult | None:
    allowed = limit(found)
    repeated = repeats(found.plan, found.applied) if again else set()
    due = [
        one
        for one in found.plan.changes
        if one.disruption.rank <= allowed.rank or (one.tunable, one.subject) in repeated
    ]
    if not due:
        return None
    told = [_due_fields(change) for change in due[:DUE_SHOWN]]
    log.info("about to write", extra={"fields": {"count": len(due), "changes": told}})
    applied = tuner.apply(found=found, limit=allowed, again=again, over_other=True, stop=stop.is_set)
    for outcome in applied.outcomes:
        level = logging.WARNING if outcome.result == "failed" else logging.INFO
        finding = found.finding((outcome.tunable, outcome.subject))
        log.log(level, "change", extra={"fields": _change_fields(outcome, finding)})
    return applied


def log_failure(error: Exception) -> None:
    """Log that a pass failed; for an error that is not ours, also where in the code."""
    known = isinstance(error, TuneError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    log.error("pass failed", extra={"fields": {"error": text}}, exc_info=None if known else error)


def _due_fields(change: Change) -> dict[str, object]:
    """What is about to be written, said before it is."""
    return {
        "tunable": change.tunable,
        "subject": change.subject,
        "found": change.prior.live,
        "wanted": change.desired,
        "keptBy": change.persistence,
    }


def _change_fields(outcome: Outcome, finding: Finding | None) -> dict[str, object]:
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
    wait *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311 - jitter, nothing secret
    # What was due in the pass just made and failed is tried again like any other failure.
    if until_deadline_s is None or until_deadline_s <= 0:
        return wait
    return max(min(wait, until_deadline_s), 0.05)
