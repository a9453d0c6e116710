"""A profile against the host without it: measured, judged, and kept or undone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.engine.host_tuner import DAEMON_LOCK, EXPERIMENT_LOCK, HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import Locked, MeasureFailed, UsageError
from tuneagent.experiments.live_arms import LiveArms, live_plan, not_applied
from tuneagent.experiments.metrics import Metric
from tuneagent.experiments.trial import Limits, Progress, decide, run_trial
from tuneagent.facts.host_name import host_name
from tuneagent.host.files import Files
from tuneagent.host.measured import run_measured

_TAIL = 600


class Experiment(NamedTuple):
    """What is run, what is read of it, and for how long."""

    command: str
    metrics: Sequence[Metric]
    limits: Limits
    command_limit_s: float
    only: tuple[str, ...] = ()


def prove(
    given: HostTuner,
    experiment: Experiment,
    *,
    stop: Callable[[], bool],
    tell: Callable[[Progress], None],
    clock: Callable[[], float],
) -> Proof:
    """Run the experiment; keep the profile, next boot included, if the metrics say so.

    Raises UsageError, MeasureFailed, and KeyboardInterrupt once `stop` says so. The host is then as it was.
    """
    with _alone(given) as tuner:
        name_of = namer(tuner.registry)
        plan = live_plan(tuner, experiment.only, name_of)
        if not plan.changes:
            return _told(tuner, 0, (), kept=False, why="the profile changes no running value of this host")
        arms = LiveArms(tuner, plan, experiment.only, name_of)
        files = Files("/")

        def measure() -> dict[str, float]:
            before = _written_at(files, experiment.metrics)
            done = run_measured(experiment.command, experiment.command_limit_s, stop)
            if done.code != 0:
                said = done.output.strip()[-_TAIL:] or "it said nothing"
                raise MeasureFailed(f"the command exited {done.code}: {said}")
            after = _written_at(files, experiment.metrics)
            stale = next((path for path, at in after.items() if at == before[path]), None)
            if stale is not None:
                raise MeasureFailed(f"the command did not write /{stale}")
            return {one.name: one.of(done.output, files.read) for one in experiment.metrics}

        proofs = run_trial(
            arms, measure, experiment.metrics, experiment.limits, clock=clock, choose=random.SystemRandom(), tell=tell
        )
        keep, why = decide(proofs)
        if keep:
            wrong = not_applied(tuner.apply(only=experiment.only).outcomes, name_of)
            if wrong:
                keep, why = False, f"{why}, but {wrong}"
        return _told(tuner, len(plan.changes), tuple(proofs), kept=keep, why=why)


def _written_at(files: Files, metrics: Sequence[Metric]) -> dict[str, int]:
    """When each file that a metric is read from was written last; 0 for one that is not there."""
    paths = [one.name.partition(":")[2].lstrip("/") for one in metrics if one.name.startswith("file:")]
    return {path: files.status(path).st_mtime_ns if files.exists(path) else 0 for path in paths}


@contextlib.contextmanager
def _alone(tuner: HostTuner) -> Iterator[HostTuner]:
    """The host for this experiment alone: whatever else would write is refused. Raises UsageError."""
    if tuner.state.is_locked(DAEMON_LOCK):
        raise UsageError("the daemon runs on this host and would repair what is switched off: stop it first")
    tuner.state.make()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(tuner.state.locked(EXPERIMENT_LOCK))
        except Locked:
            raise UsageError("another experiment is running on this host") from None
        yield msgspec.structs.replace(tuner, is_experiment=True, shared_journal=tuner.journal)


def _told(tuner: HostTuner, settings: int, metrics: tuple[MetricProof, ...], *, kept: bool, why: str) -> Proof:
    return Proof(
        host=host_name(tuner.host).name or "this host",
        profile=tuner.profile.name,
        settings=settings,
        metrics=metrics,
        kept=kept,
        why=why,
    )
