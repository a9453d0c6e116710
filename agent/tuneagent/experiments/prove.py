"""A profile against the host without it: measured, judged, and kept or undone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.engine.host_tuner import DAEMON_LOCK, HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import Locked, MeasureFailed, UsageError
from tuneagent.experiments.live_arms import LiveArms, live_plan
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
    tuner: HostTuner,
    experiment: Experiment,
    *,
    stop: Callable[[], bool],
    tell: Callable[[Progress], None],
    clock: Callable[[], float],
) -> Proof:
    """Run the experiment; keep the profile, next boot included, if the metrics say so.

    Raises UsageError, MeasureFailed, and KeyboardInterrupt once `stop` says so. The host is then as it was.
    """
    with _alone(tuner):
        name_of = namer(tuner.registry)
        plan = live_plan(tuner, experiment.only, name_of)
        if not plan.changes:
            return _told(tuner, 0, (), kept=False, why="the profile changes no running value of this host")
        arms = LiveArms(tuner, plan, experiment.only, name_of)
        files = Files("/")

        def measure() -> dict[str, float]:
            done = run_measured(experiment.command, experiment.command_limit_s, stop)
            if done.code != 0:
                said = done.output.strip()[-_TAIL:] or "it said nothing"
                raise MeasureFailed(f"the command exited {done.code}: {said}")
            return {one.name: one.of(done.output, files.read) for one in experiment.metrics}

        proofs = run_trial(
            arms, measure, experiment.metrics, experiment.limits, clock=clock, choose=random.SystemRandom(), tell=tell
        )
        keep, why = decide(proofs)
        if keep:
            outcomes = tuner.apply(only=experiment.only).outcomes
            wrong = next((one for one in outcomes if one.result != "verified"), None)
            if wrong is not None:
                name = name_of(wrong.tunable, wrong.subject)
                keep, why = False, f"{why}, but {name} was not applied: {wrong.reason or wrong.result}"
        return _told(tuner, len(plan.changes), tuple(proofs), kept=keep, why=why)


@contextlib.contextmanager
def _alone(tuner: HostTuner) -> Iterator[None]:
    """No daemon repairs drift meanwhile: it could not start, and one that runs is told of. Raises UsageError."""
    tuner.state.make()
    try:
        lock = contextlib.ExitStack()
        lock.enter_context(tuner.state.locked(DAEMON_LOCK))
    except Locked:
        raise UsageError(
            "the daemon runs on this host, or another experiment: it would repair what is switched off; stop it first"
        ) from None
    with lock:
        yield


def _told(tuner: HostTuner, settings: int, metrics: tuple[MetricProof, ...], *, kept: bool, why: str) -> Proof:
    return Proof(
        host=host_name(tuner.host).name or "this host",
        profile=tuner.profile.name,
        settings=settings,
        metrics=metrics,
        kept=kept,
        why=why,
    )
