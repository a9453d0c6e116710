"""From what was observed to findings: what is wrong, what a plan would have to write for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import msgspec

from tuneagent.contracts.plan import Prior
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.tuning_profile import Accept
from tuneagent.contracts.values import Absent, Observation, Reading, Setting, Subject, Unreadable, Value
from tuneagent.engine.observe import Observed
from tuneagent.errors import nearest, reason_of
from tuneagent.formats.spoken_values import in_words
from tuneagent.tunables.base import AnyTunable


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and what a plan would have to write for it."""

    finding: Finding
    # What is wanted as the tunable puts it; `finding.desired` is what people read.
    desired: Setting = None
    needs_live: bool = False
    needs_entries: bool = False
    refusal: str | None = None
    # Who uses it now: a change that an emptied node could make.
    busy: str | None = None
    prior: Prior = msgspec.field(default_factory=Prior)
    # The file that persists it on this host, where that is not the drop-in's usual one.
    mechanism: str | None = None
    # What the next boot would set without our own file.
    others: Setting = None


class _Persistence(msgspec.Struct, frozen=True):
    """The next boot: whether it is as wanted, whether a file of ours could make it so, and what it is."""

    is_right: bool
    is_writable: bool
    told: str


def assess(observed: Iterable[Observed], accepts: Sequence[Accept] = (), today: date | None = None) -> list[Assessment]:
    """Findings of all subjects."""
    found = []
    for one in observed:
        for subject, reading in one.readings.items():
            try:
                result = classify(one, subject, reading)
            except Exception as error:  # a value that makes no sense is that subject's trouble
                result = _not_judged(one.tunable, subject, reading, error)
            found.append(_with_acceptance(result, accepts, today))
    return found


def classify(one: Observed, subject: Subject, reading: Reading) -> Assessment:
    """One subject: running value, next boot, owner and what stands in the way, as one verdict."""
    tunable, live = one.tunable, reading.live
    base = _finding(one, subject, reading)

    def only(verdict: Verdict, advice: str) -> Assessment:
        return Assessment(finding=msgspec.structs.replace(base, verdict=verdict, advice=advice))

    untold = _not_comparable(one, subject, reading)
    if untold is not None or not isinstance(live, Value):
        return only(*(untold or (Verdict.UNKNOWN, "not read")))
    wanted = one.desired[subject]
    is_right_now = tunable.matches(subject, live.value, wanted)
    base = msgspec.structs.replace(base, in_effect=is_right_now)
    boot = _next_boot(tunable, subject, reading, live, wanted)
    if is_right_now and boot.is_right:
        is_sure = not reading.doubt
        return only(Verdict.CONVERGED, "") if is_sure else only(Verdict.UNKNOWN, _not_known(reading))
    if reading.owner is not None:
        conflict = only(Verdict.CONFLICT, f"{reading.owner} sets this too and would win")
        return msgspec.structs.replace(conflict, refusal=f"owned by {reading.owner}")
    wait = one.waits.get(subject)
    if wait is not None and not is_right_now:
        return msgspec.structs.replace(only(Verdict.PENDING, wait), refusal=wait)
    found = Assessment(
        finding=base,
        desired=wanted,
        needs_entries=not boot.is_right and boot.is_writable,
        refusal=one.refusals.get(subject),
        prior=Prior(live=live.value, persisted=value_of(reading.persisted), raw=reading.raw),
        mechanism=reading.mechanism,
        others=reading.others,
    )
    if is_right_now and reading.doubt:
        return _said(found, Verdict.UNKNOWN, _not_known(reading))
    if is_right_now:
        return _said(found, Verdict.NOT_PERSISTED, f"correct now, but lost at the next boot: {boot.told}")
    if boot.is_right and not tunable.live_writable:
        return _said(found, Verdict.PENDING, "set for the next boot, in effect after it")
    blocked = found.refusal or one.busy.get(subject)
    advice = f"cannot be changed now: {blocked}" if blocked else base.advice
    drifted = _said(found, Verdict.DRIFTED, advice)
    return msgspec.structs.replace(drifted, needs_live=tunable.live_writable, busy=one.busy.get(subject))


def _not_comparable(one: Observed, subject: Subject, reading: Reading) -> tuple[Verdict, str] | None:
    """Why a subject cannot be compared with what is wanted; None where it can."""
    if isinstance(reading.live, Unreadable):
        return Verdict.UNKNOWN, f"not read: {reading.live.error}"
    if isinstance(reading.live, Absent):
        return Verdict.UNSUPPORTED, reading.live.why
    if subject not in one.desired:
        return Verdict.UNKNOWN, "read, but the wanted value cannot be determined on this host"
    if isinstance(reading.persisted, Unreadable):
        return Verdict.UNKNOWN, f"what the next boot sets was not read: {reading.persisted.error}"
    return None


def _not_known(reading: Reading) -> str:
    return f"correct now; unknown after the next boot: {reading.doubt}"


def value_of(observation: Observation | None) -> Setting:
    """The value of an observation, None where there is none."""
    return observation.value if isinstance(observation, Value) else None


def _finding(one: Observed, subject: Subject, reading: Reading) -> Finding:
    tunable = one.tunable
    about, wanted = tunable.describe(subject), one.desired.get(subject)
    return Finding(
        tunable=tunable.name,
        subject=subject,
        name=tunable.title(subject),
        verdict=Verdict.UNKNOWN,
        severity=about.severity,
        desired=tunable.shown(subject, wanted),
        comparison=tunable.comparison(subject, wanted),
        observed=value_of(reading.live),
        persisted=value_of(reading.persisted),
        next_boot=value_of(reading.persisted),
        cannot_persist=reading.impossible,
        owner=reading.owner,
        evidence=reading.evidence,
        disruption=None if tunable.report_only else tunable.disruption,
        why=about.why,
        advice=about.advice,
        sources=about.sources,
    )


def _said(found: Assessment, verdict: Verdict, advice: str) -> Assessment:
    return msgspec.structs.replace(
        found, finding=msgspec.structs.replace(found.finding, verdict=verdict, advice=advice)
    )


def _next_boot(tunable: AnyTunable, subject: Subject, reading: Reading, live: Value, wanted: Setting) -> _Persistence:
    at_boot = reading.persisted
    is_writable = tunable.drop_in is not None and reading.impossible is None
    if not isinstance(at_boot, Value):
        # What has no mechanism of its own is made again by whoever asserts it: then nothing can be missing.
        told = reading.impossible or "nothing sets it at the next boot"
        return _Persistence(tunable.drop_in is None and reading.impossible is None, is_writable, told)
    is_right = tunable.matches(subject, at_boot.value, wanted)
    if is_right and reading.own:
        given = (live.value, reading.others) if tunable.matches(subject, live.value, wanted) else (reading.others,)
        is_right = not any(tunable.lowers(at_boot.value, other, wanted) for other in given)
    told = "the next boot does not set it" if at_boot.value is None else f"the next boot sets {in_words(at_boot.value)}"
    if reading.impossible is not None and is_right and reading.own:
        # Our own file is there now, and will not be.
        return _Persistence(False, is_writable, reading.impossible)
    if reading.impossible is not None:
        told = f"{told}, and {reading.impossible}"
    return _Persistence(is_right, is_writable, told)


def _not_judged(tunable: AnyTunable, subject: Subject, reading: Reading, error: Exception) -> Assessment:
    return Assessment(
        finding=Finding(
            tunable=tunable.name,
            subject=subject,
            name=tunable.title(subject),
            verdict=Verdict.UNKNOWN,
            severity=tunable.about.severity,
            evidence=reading.evidence,
            advice=f"not judged: {reason_of(error)}",
        )
    )


def _with_acceptance(found: Assessment, accepts: Sequence[Accept], today: date | None) -> Assessment:
    """The same, with what the profile's acceptances say of it: accepted, or that its acceptance has ended."""
    finding = found.finding
    mine = [one for one in accepts if one.tunable == finding.tunable and one.subject in _forms(finding)]
    if not mine or not finding.is_open:
        return found
    holds = next((one for one in mine if one.until is None or today is None or today <= one.until), None)
    if holds is None:
        advice = f"its acceptance ended on {mine[0].until}; {finding.advice}".rstrip("; ")
        return _said(found, finding.verdict, advice)
    until = f", until {holds.until}" if holds.until else ""
    accepted = msgspec.structs.replace(finding, verdict=Verdict.ACCEPTED, advice=f"accepted: {holds.reason}{until}")
    return Assessment(finding=accepted)


def _forms(finding: Finding) -> tuple[str, str, str]:
    """What an acceptance may call a setting: its subject, or its name as it is printed, with or without the tunable."""
    return (finding.subject, finding.name, finding.name.removeprefix(f"{finding.tunable}/"))


def unmatched(accepts: Sequence[Accept], findings: Sequence[Finding]) -> list[str]:
    """What acceptances say that are about none of the findings: mistyped, or about another host."""
    subjects: dict[str, list[str]] = {}
    for finding in findings:
        subjects.setdefault(finding.tunable, []).extend(_forms(finding))
    return [
        f"accept: no setting {accept.tunable} {accept.subject!r} here{nearest(accept.subject, known)}"
        for accept in accepts
        if accept.subject not in (known := subjects.get(accept.tunable, []))
    ]
