"""A playbook carried out: one hypothesis after the other on top of the winners, then all winners together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tuneagent.contracts.playbook import Hypothesis, Playbook, PlaybookResult, Step
from tuneagent.contracts.proof import Proof
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import BaselineFailed, MeasureFailed, NotUndone, UsageError
from tuneagent.experiments.live_arms import not_applied, undo_surely
from tuneagent.experiments.measuring import Subject
from tuneagent.experiments.playbook_files import profile_of
from tuneagent.experiments.playbook_profile import profile_text
from tuneagent.experiments.prove import NOTHING_CHANGES, Experiment, alone, prove_alone
from tuneagent.experiments.trial import Limits, Progress
from tuneagent.facts.host_name import machine_of
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.processor import processor_model

# Name of the last step.
ALL = "all winners"


class Watch(NamedTuple):
    """How a run is followed and stopped; `clock` counts seconds, `today` is the time in seconds since 1970."""

    stop: Callable[[], bool]
    tell: Callable[[str, Progress], None]
    clock: Callable[[], float]
    today: float


class Walk(NamedTuple):
    """What each step of a run needs."""

    tuner: HostTuner
    book: Playbook
    subject: Subject
    limits: Limits
    watch: Watch

    def prove(self, name: str, chosen: Sequence[Hypothesis], *, live_only: bool = True) -> Proof:
        """These hypotheses against the host as it is now; kept if they help."""
        tuner = self.tuner.with_profile(profile_of(self.book.metadata.name, chosen))
        return prove_alone(
            tuner,
            Experiment(self.subject, self.limits),
            stop=self.watch.stop,
            tell=lambda progress: self.watch.tell(name, progress),
            clock=self.watch.clock,
            live_only=live_only,
        )

    def go_back(self) -> None:
        """Undo whatever is applied."""
        undo_surely(self.tuner, set(self.tuner.journal.applied()), namer(self.tuner.registry))


def run_playbook(
    given: HostTuner, book: Playbook, subject: Subject, limits: Limits, watch: Watch, *, leave_one_out: bool = False
) -> PlaybookResult:
    """Try every hypothesis; keep the winners, next boot included, if together they help.

    Raises UsageError, BaselineFailed where the host as it is cannot be measured, and KeyboardInterrupt once it is told
    to stop. The host is then as it was.
    """
    with alone(given) as tuner:
        if tuner.journal.applied():
            raise UsageError("a profile is applied on this host: run `tuneagent undo` first")
        facts = Facts(tuner.host)
        host, processor = machine_of(facts), processor_model(facts)
        walk = Walk(tuner, book, subject, limits, watch)
        try:
            steps, winners = _try_each(walk)
            left_out = _leave_each_out(walk, winners) if leave_one_out and len(winners) > 1 else ()
        finally:
            walk.go_back()
        final, more = _all_winners(walk, winners)
        return PlaybookResult(
            playbook=book.metadata.name,
            host=host,
            processor=processor,
            taken=watch.today,
            steps=steps,
            final=final,
            left_out=(*left_out, *more),
            profile=profile_text(book, steps, final, host, processor, watch.today) if winners else "",
        )


def _all_winners(walk: Walk, winners: Sequence[Hypothesis]) -> tuple[Proof | None, tuple[Step, ...]]:
    """All of them against the host without them. A failure loses nothing of what was found before it."""
    if not winners:
        return None, ()
    try:
        return walk.prove(ALL, winners, live_only=False), ()
    except NotUndone:
        raise
    except (MeasureFailed, UsageError) as error:
        return None, (Step(name=ALL, outcome="failed", why=str(error)),)


def _try_each(walk: Walk) -> tuple[tuple[Step, ...], list[Hypothesis]]:
    steps: list[Step] = []
    winners: list[Hypothesis] = []
    for one in walk.book.spec.hypotheses:
        rival = next((other.name for other in winners if _settings(other) & _settings(one)), None)
        if rival is not None:
            told = f"{rival}, which is kept, sets the same"
            step = Step(name=one.name, outcome="skipped", why=told)
        else:
            step = _step(walk, one, [*winners, one])
        steps.append(step)
        winners += [one] if step.outcome == "kept" else []
    return tuple(steps), winners


def _settings(one: Hypothesis) -> set[tuple[str, str]]:
    """What it sets: tunables with their keys."""
    return {(tunable, key) for tunable, spec in one.tune.items() for key in (spec if isinstance(spec, dict) else ("",))}


def _step(walk: Walk, one: Hypothesis, chosen: Sequence[Hypothesis]) -> Step:
    """One hypothesis on top of what is applied. What cannot be tried is told, and the rest goes on."""
    try:
        proof = walk.prove(one.name, chosen)
    except UsageError as error:
        return Step(name=one.name, outcome="skipped", why=str(error))
    except (BaselineFailed, NotUndone):
        raise
    except MeasureFailed as error:
        return Step(name=one.name, outcome="failed", why=str(error))
    if proof.why == NOTHING_CHANGES:
        return Step(name=one.name, outcome="skipped", why="the host has these values already")
    return Step(
        name=one.name,
        outcome="kept" if proof.kept else "undone",
        why=proof.why,
        settings=proof.settings,
        metrics=proof.metrics,
    )


def _leave_each_out(walk: Walk, winners: Sequence[Hypothesis]) -> tuple[Step, ...]:
    """Each winner on top of all the others, whatever the order in which they won."""
    steps = []
    for one in winners:
        walk.go_back()
        others = [other for other in winners if other is not one]
        applied = walk.tuner.with_profile(profile_of(walk.book.metadata.name, others)).apply(live_only=True)
        wrong = not_applied(applied.outcomes, namer(walk.tuner.registry))
        if wrong:
            steps.append(Step(name=one.name, outcome="failed", why=wrong))
        else:
            steps.append(_step(walk, one, [*others, one]))
    return tuple(steps)
