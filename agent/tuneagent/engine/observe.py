"""Read a host: every subject that a profile's specs are about, each inside its own boundary."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tuneagent.contracts.values import Reading, Setting, Subject, Unreadable, Value
from tuneagent.errors import UsageError, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import ordered


class Observed(msgspec.Struct, frozen=True):
    """One tunable on one host: what is there, what is wanted, what cannot be changed now."""

    tunable: AnyTunable
    readings: Mapping[Subject, Reading]
    desired: Mapping[Subject, Setting]
    # Why a change cannot be made on this host at all; why only another change makes it possible; who uses it now.
    refusals: Mapping[Subject, str] = msgspec.field(default_factory=dict)
    waits: Mapping[Subject, str] = msgspec.field(default_factory=dict)
    busy: Mapping[Subject, str] = msgspec.field(default_factory=dict)


def observe(facts: Facts, registry: Mapping[str, AnyTunable]) -> list[Observed]:
    """Read every subject that the specs of this pass are about, in the order of `after`."""
    names = ordered({name: registry[name] for name in facts.specs if name in registry})
    return [_observed(facts, registry[name], facts.specs[name]) for name in names]


def observe_again(facts: Facts, before: Observed, subjects: Mapping[Subject, Reading | None]) -> Observed:
    """The same tunable with these subjects read anew, or as they are given; the others as they were."""
    anew = {subject: given or _read(facts, before.tunable, subject) for subject, given in subjects.items()}
    readings = {subject: anew.get(subject, reading) for subject, reading in before.readings.items()}
    return _with_reasons(facts, before.tunable, facts.specs[before.tunable.name], readings)


def _observed(facts: Facts, tunable: AnyTunable, spec: object) -> Observed:
    """What is there and what is wanted. A file beside the setting that cannot be read makes it unknown, no more."""
    try:
        subjects = tunable.subjects(facts, spec)
    except UsageError:
        raise
    except Exception as error:  # one boundary around each tunable and each subject
        return Observed(tunable, {"host": _failed(tunable, error)}, {})
    return _with_reasons(facts, tunable, spec, {subject: _read(facts, tunable, subject) for subject in subjects})


def _read(facts: Facts, tunable: AnyTunable, subject: Subject) -> Reading:
    try:
        return tunable.read(facts, subject)
    except Exception as error:  # one subject's trouble is that subject's
        return _failed(tunable, error)


def _with_doubt(facts: Facts, tunable: AnyTunable, reading: Reading) -> Reading:
    """With what else may set it at the next boot. Asked only of what is as wanted now: else it changes no verdict."""
    if tunable.drop_in is None or reading.doubt:
        return reading
    # A host on which nothing is as wanted needs none of it.
    from tuneagent.persist.other_writers import doubt

    try:
        return msgspec.structs.replace(reading, doubt=doubt(facts, reading.evidence, own=reading.own))
    except Exception as error:  # one subject's trouble is that subject's
        return _failed(tunable, error)


def _failed(tunable: AnyTunable, error: Exception) -> Reading:
    return Reading(Unreadable(reason_of(error)), evidence=tunable.name)


def _with_reasons(facts: Facts, tunable: AnyTunable, spec: object, readings: Mapping[Subject, Reading]) -> Observed:
    try:
        desired = tunable.desire(facts, spec, readings)
    except Exception as error:
        return Observed(tunable, dict.fromkeys(readings, _failed(tunable, error)), {})
    known = dict(readings)
    found = Observed(tunable, known, desired, {}, {}, {})
    for subject, wanted in desired.items():
        try:
            live = readings[subject].live
            if not isinstance(live, Value):
                continue
            if tunable.matches(subject, live.value, wanted):
                known[subject] = _with_doubt(facts, tunable, readings[subject])
                continue
            reasons: tuple[tuple[Mapping[Subject, str], str | None], ...] = (
                (found.refusals, tunable.refuse(facts, subject, wanted)),
                (found.waits, tunable.waits(facts, subject)),
                (found.busy, tunable.busy(facts, subject, wanted)),
            )
        except Exception as error:
            reasons = ((found.refusals, f"whether it can be written was not found out: {reason_of(error)}"),)
        for place, reason in reasons:
            if reason is not None:
                place[subject] = reason  # type: ignore[index]  # filled here, read only from here on
    return found
