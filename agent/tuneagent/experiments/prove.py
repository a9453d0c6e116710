"""A profile against the host without it: measured, judged, and kept or undone."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.engine.host_tuner import DAEMON_LOCK, EXPERIMENT, EXPERIMENT_LOCK, HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import Locked, UsageError
from tuneagent.experiments.live_arms import LiveArms, live_plan, not_applied, undo_surely
from tuneagent.experiments.measuring import Subject, measurer
from tuneagent.experiments.trial import Limits, Progress, decide, run_trial
from tuneagent.facts.host_name import host_name

NOTHING_CHANGES = "the profile changes no running value of this host"


class Experiment(NamedTuple):
    """What is measured, for how long, and which of the profile's settings are switched."""

    subject: Subject
    limits: Limits
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
    with alone(given) as tuner:
        return prove_alone(tuner, experiment, stop=stop, tell=tell, clock=clock)


def prove_alone(
    tuner: HostTuner,
    experiment: Experiment,
    *,
    stop: Callable[[], bool],
    tell: Callable[[Progress], None],
    clock: Callable[[], float],
    live_only: bool = False,
) -> Proof:
    """The same for whoever holds the host already; with `live_only` nothing is written for the next boot."""
    name_of = namer(tuner.registry)
    plan = live_plan(tuner, experiment.only, name_of)
    if not plan.changes:
        return _told(tuner, 0, (), kept=False, why=NOTHING_CHANGES)
    before = set(tuner.journal.applied())
    arms = LiveArms(tuner, plan, experiment.only, name_of)
    proofs = run_trial(
        arms, measurer(experiment.subject, stop), experiment.subject.metrics, experiment.limits, clock=clock,
        choose=random.SystemRandom(), tell=tell,
    )  # fmt: skip
    keep, why = decide(proofs)
    if keep:
        wrong = not_applied(tuner.apply(only=experiment.only, live_only=live_only).outcomes, name_of)
        if wrong:
            # The rest of it is taken back as well: half a profile was not measured.
            undo_surely(tuner, set(tuner.journal.applied()) - before, name_of)
            keep, why = False, f"{why}, but {wrong}"
    return _told(tuner, len(plan.changes), tuple(proofs), kept=keep, why=why)


@contextlib.contextmanager
def alone(tuner: HostTuner) -> Iterator[HostTuner]:
    """The host for this experiment alone: whatever else would write is refused. Raises UsageError."""
    tuner.state.make()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(tuner.state.locked(EXPERIMENT_LOCK))
        except Locked:
            raise UsageError("another experiment is running on this host") from None
        if tuner.state.is_locked(DAEMON_LOCK):
            raise UsageError("the daemon runs on this host and would repair what is switched off: stop it first")
        tuner.state.replace(EXPERIMENT, f"{tuner.profile.name}\n".encode())
        try:
            yield msgspec.structs.replace(tuner, is_experiment=True, shared_journal=tuner.journal)
        finally:
            tuner.state.remove(EXPERIMENT)


def _told(tuner: HostTuner, settings: int, metrics: tuple[MetricProof, ...], *, kept: bool, why: str) -> Proof:
    return Proof(
        host=host_name(tuner.host).name or "this host",
        profile=tuner.profile.name,
        settings=settings,
        metrics=metrics,
        kept=kept,
        why=why,
    )
