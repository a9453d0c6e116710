"""The loop on a bare host: wake, read the profile, run the engine, say what was found. Limits and back-off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tuneagent.contracts.report import Report
from tuneagent.engine.host_tuner import DAEMON_LOCK, HostTuner
from tuneagent.errors import TuneError
from tuneagent.host.signals import daemon_stop_event
from tuneagent.node.log import log, set_up_logging
from tuneagent.node.metrics import Metrics
from tuneagent.node.passes import log_failure, next_wait_s, open_findings, run_pass
from tuneagent.profile_files.document import Profile


def serve_file(
    tuner: HostTuner,
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
    tuner.state.make()
    current = tuner.with_profile(load())
    current.specs()
    last = ""
    with daemon_stop_event() as stop, tuner.state.locked(DAEMON_LOCK):
        log.info("started", extra={"fields": _about(current)})
        failures = 0
        while not stop.is_set():
            current = _reloaded(current, load, metrics)
            try:
                _revert_if_due(current)
                done = run_pass(current, stop, metrics, again=True)
                last = _say_findings(done.after.report, last)
                failures = 0
            except Exception as error:  # nothing that a pass meets may end the daemon
                failures += 1
                metrics.failed()
                log_failure(error)
            metrics.beat()
            stop.wait(next_wait_s(interval_s, failures, _until_deadline(current)))
        log.info("stopped; everything stays as it is")
    return 0


def _about(tuner: HostTuner) -> dict[str, object]:
    """What the daemon follows, and what it will do about drift."""
    drift = tuner.profile.spec.drift or "report"
    does = {
        "report": "nothing is written; `drift: repair` in the profile would have settings written again",
        "repair": "settings of class live are written again where they are not as wanted",
        "freeze": "nothing is written",
    }
    profile = tuner.profile
    return {"profile": profile.name, "revision": profile.revision, "drift": drift, "does": does[drift]}


def _reloaded(tuner: HostTuner, load: Callable[[], Profile], metrics: Metrics) -> HostTuner:
    try:
        profile = load()
        changed = tuner.with_profile(profile)
        if profile.revision != tuner.profile.revision:
            changed.specs()
            log.info("profile changed", extra={"fields": {"profile": profile.name, "revision": profile.revision}})
    except Exception as error:  # whatever the file holds, the last good profile goes on
        log.error("profile not read; the last good one goes on", extra={"fields": {"error": str(error)}})
        metrics.stale(True)
        return tuner
    metrics.stale(False)
    return changed


def _revert_if_due(tuner: HostTuner) -> None:
    results = tuner.revert_unconfirmed()
    if results is not None:
        log.warning("not confirmed in time, went back", extra={"fields": {"settings": len(results)}})


def _until_deadline(tuner: HostTuner) -> float | None:
    with contextlib.suppress(TuneError):
        pending = tuner.pending()
        if pending is not None:
            return pending.deadline - tuner.host.now()
    return None


def _say_findings(report: Report, last: str) -> str:
    """Log open findings when they differ from those of the last pass."""
    chosen = open_findings(report)
    text = ";".join(f"{finding.tunable} {finding.subject} {finding.verdict.value}" for finding in chosen)
    if text != last:
        fields = {"summary": report.summary, "open": text.split(";")[:50] if text else []}
        log.info("findings", extra={"fields": fields})
    return text
