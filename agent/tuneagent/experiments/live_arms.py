"""The two arms on a host: a profile's live settings applied through the engine, and undone again.

Nothing is written for the next boot. A process that dies in an arm leaves a journal that `tuneagent undo` goes back by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change, Plan
from tuneagent.contracts.values import Disruption, Setting, Value
from tuneagent.engine.applied_settings import Key
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.plan import live_part, narrowed
from tuneagent.errors import MeasureFailed, NotUndone, UsageError
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.spoken_values import in_words

_LISTED = 5


class LiveArms:
    """`A` is the host as it was when the trial began, `B` has every change of the plan."""

    def __init__(self, tuner: HostTuner, plan: Plan, only: tuple[str, ...], name_of: Callable[[str, str], str]) -> None:
        self._tuner = tuner
        self._only = only
        self._name_of = name_of
        self.changes = {_key(one): one for one in plan.changes}
        self._arm = "A"

    def switch(self, arm: str) -> None:
        """Apply or undo. Raises MeasureFailed with the first setting that did not come out as wanted."""
        if arm == self._arm:
            return
        if arm == "B":
            # From here on there may be something to undo.
            self._arm = "B"
            self._apply()
        else:
            self._undo()
            self._arm = "A"

    def _apply(self) -> None:
        result = self._tuner.apply(only=self._only, live_only=True)
        wrong = not_applied(result.outcomes, self._name_of)
        if wrong:
            raise MeasureFailed(wrong)

    def _undo(self) -> None:
        # What a command has changed of these settings itself goes back as well.
        undo_surely(self._tuner, set(self.changes), self._name_of)

    def verify(self, arm: str) -> None:
        """Raise MeasureFailed unless each setting has the value of this arm; then each has its first one again."""
        facts = Facts(self._tuner.host, self._tuner.specs())
        moved = [key for key, change in self.changes.items() if not self._is_at(facts, change, arm)]
        if not moved:
            return
        found = self._found(facts, moved[0])
        if arm == "A":
            # None of this is in the journal: nothing is applied.
            for key in moved:
                self._tuner.registry[key[0]].write(facts, key[1], self.changes[key].prior.live)
        wanted = _wanted(self.changes[moved[0]], arm)
        raise MeasureFailed(
            f"{self._name_of(*moved[0])} was changed while the command ran, by it or by someone else "
            f"(wanted {in_words(wanted)}, found {found}): nothing can be compared"
        )

    def _found(self, facts: Facts, key: Key) -> str:
        live = self._tuner.registry[key[0]].read(facts, key[1]).live
        return in_words(live.value) if isinstance(live, Value) else "nothing"

    def _is_at(self, facts: Facts, change: Change, arm: str) -> bool:
        tunable = self._tuner.registry[change.tunable]
        live = tunable.read(facts, change.subject).live
        return isinstance(live, Value) and tunable.matches(change.subject, live.value, _wanted(change, arm))


def undo_surely(tuner: HostTuner, keys: set[Key], name_of: Callable[[str, str], str]) -> None:
    """Undo these settings. Raises NotUndone with the first that did not go back."""
    wrong = next((one for one in tuner.undo(keys, force=True) if not one.is_settled), None)
    if wrong is not None:
        name = name_of(wrong.tunable, wrong.subject)
        raise NotUndone(
            f"{name} was not undone: {wrong.reason or wrong.result}; run `tuneagent status`, then `tuneagent undo`"
        )


def not_applied(outcomes: Iterable[Outcome], name_of: Callable[[str, str], str]) -> str:
    """The first setting that did not come out as wanted, and why; empty where all did."""
    wrong = next((one for one in outcomes if one.result != "verified"), None)
    return f"{name_of(wrong.tunable, wrong.subject)} was not applied: {wrong.reason or wrong.result}" if wrong else ""


def live_plan(tuner: HostTuner, only: tuple[str, ...], name_of: Callable[[str, str], str]) -> Plan:
    """What a trial switches. Raises UsageError for a profile that cannot be tried on this host as it is."""
    found = tuner.observe()
    plan = narrowed(found.plan, found.chosen(only))
    heavier = [one for one in plan.changes if one.disruption is not Disruption.LIVE]
    if heavier:
        raise UsageError(
            f"{len(heavier)} of {len(plan.changes)} changes cannot be switched while the host works "
            f"({_listed(heavier, name_of)} needs a change of class {heavier[0].disruption.value}); "
            "try the others with --only NAME, or measure before and after with --once"
        )
    live = live_part(plan, tuner.registry)
    applied = tuner.journal.applied()
    other = next((one.profile for one in applied.values() if one.profile != tuner.profile.name), None)
    if other is not None:
        raise UsageError(
            f"profile {other} is applied on this host, or an experiment was interrupted: run `tuneagent undo` first"
        )
    ours = [one for one in live.changes if _key(one) in applied]
    if ours or (applied and not live.changes):
        profile = next(iter(applied.values())).profile
        told = f"{_listed(ours, name_of)} is not as this one wants it" if ours else "it is what this one wants"
        raise UsageError(
            f"profile {profile} is applied on this host, or an experiment was interrupted, and {told}: "
            "run `tuneagent undo` first, so that it is clear what the host is without a profile"
        )
    if plan.refused:
        first = plan.refused[0]
        raise UsageError(
            f"{name_of(first.tunable, first.subject)} cannot be changed on this host: {first.reason}; "
            "try the others with --only NAME"
        )
    return live


def _wanted(change: Change, arm: str) -> Setting:
    return change.desired if arm == "B" else change.prior.live


def _key(change: Change) -> Key:
    return (change.tunable, change.subject)


def _listed(changes: list[Change], name_of: Callable[[str, str], str]) -> str:
    names = [name_of(*_key(one)) for one in changes[:_LISTED]]
    return ", ".join(names) + (f" and {len(changes) - _LISTED} more" if len(changes) > _LISTED else "")
