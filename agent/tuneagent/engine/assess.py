"""The way through the code up to a plan: observe, diff, plan. `observe` reads the host, the others are pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import msgspec

from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.tuning_profile import Accept
from tuneagent.contracts.values import Absent, Observation, Reading, Setting, Subject, Unreadable, Value
from tuneagent.errors import UsageError, nearest, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.registry import ordered


@dataclass(frozen=True)
class Observed:
    """One tunable on one host: what is there, what is wanted, what cannot be changed now."""

    tunable: Tunable[Any]
    readings: Mapping[Subject, Reading]
    desired: Mapping[Subject, Setting]
    refusals: Mapping[Subject, str] = field(default_factory=dict)
    waits: Mapping[Subject, str] = field(default_factory=dict)
    busy: Mapping[Subject, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Assessment:
    """A finding, and what a plan would have to write for it."""

    finding: Finding
    needs_live: bool = False
    needs_entries: bool = False
    refusal: str | None = None
    # Who uses it now: a change that an emptied node could make.
    busy: str | None = None
    prior: Setting = None
    # The file that persists it on this host, where that is not the drop-in's usual one.
    mechanism: str | None = None
    # What the next boot would set without our own file.
    others: Setting = None


def observe(facts: Facts, specs: Mapping[str, Any], registry: Mapping[str, Tunable[Any]]) -> list[Observed]:
    """Read every subject that the specs are about, in the order of `after`."""
    found = []
    facts.specs = specs
    for name in ordered({name: registry[name] for name in specs if name in registry}):
        tunable = registry[name]
        readings, desired = _looked_at(facts, tunable, specs[name])
        refusals, waits, busy = dict[Subject, str](), dict[Subject, str](), dict[Subject, str]()
        for subject, wanted in desired.items():
            try:
                live = readings[subject].live
                if not isinstance(live, Value) or tunable.matches(live.value, wanted):
                    continue
                for found_of, ask in (
                    (refusals, tunable.refuse(facts, subject, wanted)),
                    (waits, tunable.waits(facts, subject)),
                    (busy, tunable.busy(facts, subject, wanted)),
                ):
                    if ask is not None:
                        found_of[subject] = ask
            except Exception as error:  # one subject's trouble is that subject's
                refusals[subject] = f"whether it can be written was not found out: {reason_of(error)}"
        found.append(Observed(tunable, readings, desired, refusals, waits, busy))
    return found


def _looked_at(
    facts: Facts, tunable: Tunable[Any], spec: Any
) -> tuple[Mapping[Subject, Reading], Mapping[Subject, Setting]]:
    """What is there and what is wanted. A file beside the setting that cannot be read makes it unknown, no more."""
    try:
        subjects = tunable.subjects(facts, spec)
    except UsageError:
        raise
    except Exception as error:  # one boundary around each tunable and each subject
        return {"host": Reading(Unreadable(reason_of(error)), evidence=tunable.name)}, {}
    readings = {}
    for subject in subjects:
        try:
            readings[subject] = tunable.read(facts, subject)
        except Exception as error:
            readings[subject] = Reading(Unreadable(reason_of(error)), evidence=tunable.name)
    try:
        return readings, tunable.desire(facts, spec, readings)
    except Exception as error:
        failed = Reading(Unreadable(reason_of(error)), evidence=tunable.name)
        return dict.fromkeys(subjects, failed), {}


def diff(observed: Iterable[Observed], accepts: Sequence[Accept] = (), today: date | None = None) -> list[Assessment]:
    """Findings of all subjects. Pure."""
    judged = []
    for one in observed:
        for subject, reading in one.readings.items():
            try:
                result = _judge(one, subject, reading)
            except Exception as error:  # a value that makes no sense is that subject's trouble
                result = _unjudged(one, subject, reading, error)
            accept = _accepted(accepts, one.tunable.name, subject, today)
            if accept is not None and result.finding.is_open:
                finding = msgspec.structs.replace(
                    result.finding,
                    verdict=Verdict.ACCEPTED,
                    advice=f"accepted: {accept.reason}" + (f", until {accept.until}" if accept.until else ""),
                )
                result = Assessment(finding)
            elif (ended := _ended(accepts, one.tunable.name, subject)) is not None and result.finding.is_open:
                advice = f"its acceptance ended on {ended.until}; {result.finding.advice}".rstrip("; ")
                result = replace(result, finding=msgspec.structs.replace(result.finding, advice=advice))
            judged.append(result)
    return judged


def unmatched(accepts: Sequence[Accept], findings: Sequence[Finding]) -> list[str]:
    """What acceptances say that are about none of the findings: mistyped, or about another host. Pure."""
    subjects: dict[str, list[str]] = {}
    for finding in findings:
        subjects.setdefault(finding.tunable, []).append(finding.subject)
    return [
        f"accept: no setting {accept.tunable} {accept.subject!r} here{nearest(accept.subject, known)}"
        for accept in accepts
        if accept.subject not in (known := subjects.get(accept.tunable, []))
    ]


def _ended(accepts: Sequence[Accept], tunable: str, subject: Subject) -> Accept | None:
    """An acceptance of this finding; asked for where none holds today."""
    return next((accept for accept in accepts if (accept.tunable, accept.subject) == (tunable, subject)), None)


def _accepted(accepts: Sequence[Accept], tunable: str, subject: Subject, today: date | None) -> Accept | None:
    for accept in accepts:
        same = accept.tunable == tunable and accept.subject == subject
        if same and (accept.until is None or today is None or today <= accept.until):
            return accept
    return None


def shown(observation: Observation | None) -> Setting:
    """The value of an observation, None where there is none."""
    return observation.value if isinstance(observation, Value) else None


def _unjudged(one: Observed, subject: Subject, reading: Reading, error: Exception) -> Assessment:
    finding = Finding(
        tunable=one.tunable.name,
        subject=subject,
        name=one.tunable.title(subject),
        verdict=Verdict.UNKNOWN,
        severity=one.tunable.about.severity,
        evidence=reading.evidence,
        advice=f"not judged: {reason_of(error)}",
    )
    return Assessment(finding)


def _judge(one: Observed, subject: Subject, reading: Reading) -> Assessment:
    tunable, live = one.tunable, reading.live
    about = tunable.describe(subject)
    wanted = one.desired.get(subject)
    base = Finding(
        tunable=tunable.name,
        subject=subject,
        name=tunable.title(subject),
        verdict=Verdict.CONVERGED,
        severity=about.severity,
        desired=wanted,
        observed=shown(live),
        persisted=f"impossible: {reading.impossible}" if reading.impossible else shown(reading.persisted),
        next_boot=shown(reading.persisted),
        owner=reading.owner,
        evidence=reading.evidence,
        disruption=None if tunable.report_only else tunable.disruption,
        why=about.why,
        advice=tunable.explain(subject, wanted),
        sources=about.sources,
    )

    def say(verdict: Verdict, advice: str | None = None) -> Finding:
        return msgspec.structs.replace(base, verdict=verdict, advice=base.advice if advice is None else advice)

    if isinstance(live, Unreadable):
        return Assessment(say(Verdict.UNKNOWN, f"not read: {live.error}"))
    if isinstance(live, Absent):
        return Assessment(say(Verdict.UNSUPPORTED, live.why))
    if subject not in one.desired:
        return Assessment(say(Verdict.UNKNOWN, "read, but what is wanted here cannot be told on this host"))
    live_ok = tunable.matches(live.value, wanted)
    base = msgspec.structs.replace(base, in_effect=live_ok)
    has_entries = tunable.drop_in is not None and reading.impossible is None
    at_boot = reading.persisted
    boots_right = isinstance(at_boot, Value) and tunable.matches(at_boot.value, wanted)
    if reading.own and isinstance(at_boot, Value):
        given = (live.value, reading.others) if live_ok else (reading.others,)
        boots_right = boots_right and not any(tunable.lowers(at_boot.value, other, wanted) for other in given)
    entries_ok = boots_right
    if not has_entries:
        # Where we cannot write, only a file that sets something else makes the next boot wrong.
        entries_ok = entries_ok or not isinstance(at_boot, Value)
    if tunable.drop_in is not None and isinstance(reading.persisted, Unreadable):
        return Assessment(say(Verdict.UNKNOWN, f"what the next boot sets was not read: {reading.persisted.error}"))
    if live_ok and entries_ok:
        return Assessment(say(Verdict.CONVERGED, ""))
    if reading.owner is not None:
        return Assessment(
            say(Verdict.CONFLICT, f"{reading.owner} sets this too and would win"),
            refusal=f"owned by {reading.owner}",
        )
    prior = {"live": live.value, "persisted": shown(reading.persisted)}
    needs_live = not live_ok and tunable.live_writable
    refusal = one.refusals.get(subject)
    if subject in one.waits and not live_ok:
        return Assessment(say(Verdict.PENDING, one.waits[subject]), refusal=one.waits[subject])
    if live_ok or (not tunable.live_writable and boots_right):
        when = _when(live_ok, reading.persisted)
        return Assessment(
            say(Verdict.PENDING, when),
            False,
            not entries_ok and has_entries,
            refusal,
            None,
            prior,
            reading.mechanism,
            reading.others,
        )
    user = one.busy.get(subject)
    blocked = refusal or user
    return Assessment(
        say(Verdict.DRIFTED, f"cannot be changed now: {blocked}" if blocked else None),
        needs_live,
        not entries_ok and has_entries,
        refusal,
        user,
        prior,
        reading.mechanism,
        reading.others,
    )


def _when(live_ok: bool, persisted: Observation | None) -> str:
    if not live_ok:
        return "right after the next reboot, not before"
    if isinstance(persisted, Value):
        return f"right now, but the next boot sets {persisted.value!r}"
    return "right now, but nothing makes it so at the next boot"
