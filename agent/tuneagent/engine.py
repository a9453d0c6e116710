"""The way through the code: observe, diff, plan, apply, verify. One direction, no way back.

`observe` and `apply` touch the host; `diff` and `make_plan` are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from tuneagent.errors import JournalError, ReadFailed, WriteFailed
from tuneagent.gpu import GpuSnapshot
from tuneagent.journal import Entry, Held, Journal, Key, Record, Step
from tuneagent.model import (
    Absent,
    Change,
    Disruption,
    Finding,
    Lifetime,
    Observation,
    Plan,
    ProfileName,
    Reading,
    Refusal,
    Setting,
    Subject,
    Unreadable,
    Value,
    Verdict,
    digest_of,
)
from tuneagent.restore import restore, restore_entries
from tuneagent.tunable import Facts, Tunable
from tuneagent.tuning_profile import Accept

BASELINE = "baseline"


@dataclass(frozen=True)
class Observed:
    """One tunable on one host: what is there, what is wanted, what cannot be changed now."""

    tunable: Tunable[Any]
    readings: Mapping[Subject, Reading]
    desired: Mapping[Subject, Setting]
    refusals: Mapping[Subject, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A finding, and what a plan would have to write for it."""

    finding: Finding
    needs_live: bool = False
    needs_entries: bool = False
    refusal: str | None = None
    prior: Setting = None


def observe(facts: Facts, specs: Mapping[str, Any], registry: Mapping[str, Tunable[Any]]) -> list[Observed]:
    """Read every subject that the specs are about, in the order of `after`."""
    found = []
    for name in ordered(registry):
        if name not in specs:
            continue
        tunable = registry[name]
        subjects = tunable.subjects(facts, specs[name])
        readings = {subject: tunable.read(facts, subject) for subject in subjects}
        desired = tunable.desire(facts, specs[name], readings)
        refusals = {}
        for subject, wanted in desired.items():
            live = readings[subject].live
            if isinstance(live, Value) and not tunable.matches(live.value, wanted):
                reason = tunable.refuse(facts, subject, wanted)
                if reason is not None:
                    refusals[subject] = reason
        found.append(Observed(tunable, readings, desired, refusals))
    return found


def ordered(registry: Mapping[str, Tunable[Any]]) -> list[str]:
    """Names such that each comes after those in its `after`; by name where that leaves a choice."""
    done: list[str] = []
    waiting = sorted(registry)
    while waiting:
        ready = [name for name in waiting if all(dep in done or dep not in registry for dep in registry[name].after)]
        if not ready:
            raise ValueError(f"tunables wait for each other: {', '.join(waiting)}")
        done.append(ready[0])
        waiting.remove(ready[0])
    return done


def diff(observed: Iterable[Observed], accepts: Sequence[Accept] = (), today: date | None = None) -> list[Judged]:
    """Findings of all subjects. Pure."""
    judged = []
    for one in observed:
        for subject, reading in one.readings.items():
            result = _judge(one, subject, reading)
            accept = _accepted(accepts, one.tunable.name, subject, today)
            if accept is not None and result.finding.is_open:
                finding = msgspec.structs.replace(
                    result.finding,
                    verdict=Verdict.ACCEPTED,
                    advice=f"accepted: {accept.reason}" + (f", until {accept.until}" if accept.until else ""),
                )
                result = Judged(finding)
            judged.append(result)
    return judged


def _accepted(accepts: Sequence[Accept], tunable: str, subject: Subject, today: date | None) -> Accept | None:
    for accept in accepts:
        same = accept.tunable == tunable and accept.subject == subject
        if same and (accept.until is None or today is None or today <= accept.until):
            return accept
    return None


def _shown(observation: Observation | None) -> Setting:
    return observation.value if isinstance(observation, Value) else None


def _judge(one: Observed, subject: Subject, reading: Reading) -> Judged:
    tunable, live = one.tunable, reading.live
    about = tunable.describe(subject)
    wanted = one.desired.get(subject)
    base = Finding(
        tunable=tunable.name,
        subject=subject,
        verdict=Verdict.CONVERGED,
        severity=about.severity,
        desired=wanted,
        observed=_shown(live),
        persisted=f"impossible: {reading.impossible}" if reading.impossible else _shown(reading.persisted),
        next_boot=_shown(reading.persisted),
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
        return Judged(say(Verdict.UNKNOWN, f"not read: {live.error}"))
    if isinstance(live, Absent):
        return Judged(say(Verdict.UNSUPPORTED, live.why))
    if subject not in one.desired:
        return Judged(say(Verdict.CONVERGED, "read; the profile wants nothing of it"))
    live_ok = tunable.matches(live.value, wanted)
    has_entries = tunable.drop_in is not None and reading.impossible is None
    entries_ok = not has_entries or (
        isinstance(reading.persisted, Value) and tunable.matches(reading.persisted.value, wanted)
    )
    if has_entries and isinstance(reading.persisted, Unreadable):
        return Judged(say(Verdict.UNKNOWN, f"what the next boot sets was not read: {reading.persisted.error}"))
    if live_ok and entries_ok:
        return Judged(say(Verdict.CONVERGED, ""))
    if reading.owner is not None:
        return Judged(
            say(Verdict.CONFLICT, f"{reading.owner} sets this too and would win"),
            refusal=f"owned by {reading.owner}",
        )
    prior = {"live": live.value, "persisted": _shown(reading.persisted)}
    needs_live = not live_ok and tunable.live_writable
    refusal = one.refusals.get(subject)
    if live_ok or (not tunable.live_writable and entries_ok):
        when = _when(live_ok, reading.persisted)
        return Judged(say(Verdict.PENDING, when), False, not entries_ok, refusal, prior)
    return Judged(
        say(Verdict.DRIFTED, f"cannot be changed now: {refusal}" if refusal else None),
        needs_live,
        not entries_ok,
        refusal,
        prior,
    )


def _when(live_ok: bool, persisted: Observation | None) -> str:
    if not live_ok:
        return "right after the next reboot, not before"
    if isinstance(persisted, Value):
        return f"right now, but the next boot sets {persisted.value!r}"
    return "right now, but nothing makes it so at the next boot"


def make_plan(judged: Iterable[Judged], registry: Mapping[str, Tunable[Any]], dropped: Iterable[Held] = ()) -> Plan:
    """Changes ordered by disruption and `after`; `dropped` are held settings that no profile names now. Pure."""
    changes: list[Change] = []
    refused: list[Refusal] = []
    for item in judged:
        tunable = registry[item.finding.tunable]
        if tunable.report_only or not (item.needs_live or item.needs_entries or item.refusal):
            continue
        if item.refusal is not None:
            refused.append(Refusal(tunable=tunable.name, subject=item.finding.subject, reason=item.refusal))
            continue
        changes.append(
            Change(
                tunable=tunable.name,
                subject=item.finding.subject,
                prior=item.prior,
                desired=item.finding.desired,
                disruption=tunable.disruption,
                persistence=f"/{tunable.drop_in.path}"
                if item.needs_entries and tunable.drop_in is not None
                else tunable.lifetime.value,
            )
        )
    for held in dropped:
        changes.append(
            Change(
                tunable=held.tunable,
                subject=held.subject,
                prior={"live": held.wrote, "persisted": None},
                desired=held.baseline,
                disruption=registry[held.tunable].disruption,
                persistence=BASELINE,
            )
        )
    places = {name: number for number, name in enumerate(ordered(registry))}
    changes.sort(key=lambda change: (change.disruption.rank, places[change.tunable], change.subject))
    return Plan(digest=digest_of(changes), changes=tuple(changes), refused=tuple(refused))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change: `verified`, `failed`, `withheld` or `skipped`."""

    tunable: str
    subject: Subject
    result: str
    reason: str = ""


@dataclass(frozen=True)
class Context:
    """What goes into every journal record of one run."""

    host_now: Callable[[], float]
    profile: ProfileName
    boot_id: str
    kernel: str
    driver: str = ""


def context_of(facts: Facts, profile: ProfileName, *, with_driver: bool) -> Context:
    """Context of this host and boot."""
    kernel = facts.host.files.read_or("proc/sys/kernel/osrelease", "")
    driver = ""
    if with_driver and isinstance(facts.gpus, GpuSnapshot):
        driver = facts.gpus.driver_version
    return Context(facts.host.now, profile, facts.boot_id, kernel, driver)


def apply(
    facts: Facts,
    plan: Plan,
    journal: Journal,
    registry: Mapping[str, Tunable[Any]],
    context: Context,
    *,
    limit: Disruption = Disruption.LIVE,
    undo_held: Callable[[Key], str | None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Write a plan, tunable by tunable: journal, write, read back; what fails goes back to what it was.

    Raises JournalError if the journal cannot be written: then nothing more is changed.
    """
    outcomes: list[Outcome] = []
    failed: set[str] = set()
    groups: dict[tuple[str, bool], list[Change]] = {}
    for change in plan.changes:
        if change.disruption.rank > limit.rank:
            reason = f"needs --max-disruption {change.disruption.value}"
            outcomes.append(_outcome(change, "withheld", reason))
        else:
            groups.setdefault((change.tunable, change.persistence == BASELINE), []).append(change)
    for (name, to_baseline), changes in groups.items():
        blocked = [dependency for dependency in registry[name].after if dependency in failed]
        if blocked or stop():
            reason = f"{blocked[0]} failed before it" if blocked else "stopped"
            outcomes += [_outcome(change, "skipped", reason) for change in changes]
            continue
        if to_baseline and undo_held is not None:
            results = [_outcome_of_undo(change, undo_held) for change in changes]
        else:
            results = _apply_group(facts, registry[name], changes, plan.digest, journal, context)
        if any(outcome.result == "failed" for outcome in results):
            failed.add(name)
        outcomes += results
    return outcomes


def _outcome(change: Change, result: str, reason: str = "") -> Outcome:
    return Outcome(tunable=change.tunable, subject=change.subject, result=result, reason=reason)


def _outcome_of_undo(change: Change, undo_held: Callable[[Key], str | None]) -> Outcome:
    problem = undo_held((change.tunable, change.subject))
    return _outcome(change, "failed" if problem else "verified", problem or "back to its baseline")


def _apply_group(
    facts: Facts,
    tunable: Tunable[Any],
    changes: Sequence[Change],
    plan: str,
    journal: Journal,
    context: Context,
) -> list[Outcome]:
    own = tunable.drop_in.entries(facts) if tunable.drop_in is not None else {}
    entries = [_entry(tunable, change, own) for change in changes]
    persistent = tunable.lifetime
    if any(entry.entries_wrote for entry in entries):
        persistent = Lifetime.PERSISTENT

    def note(step: Step, subset: Iterable[Entry], reason: str = "") -> None:
        found = tuple(subset) if step == "intended" else tuple(Entry(subject=entry.subject) for entry in subset)
        if found:
            journal.append(
                Record(
                    step=step,
                    time=context.host_now(),
                    plan=plan,
                    tunable=tunable.name,
                    lifetime=persistent,
                    boot_id=context.boot_id,
                    kernel=context.kernel,
                    driver=context.driver,
                    profile=context.profile.name,
                    revision=context.profile.revision,
                    reason=reason,
                    entries=found,
                )
            )

    note("intended", entries)
    problems = _write_all(facts, tunable, entries)
    written = [entry for entry in entries if entry.subject not in problems]
    note("done", written)
    problems.update(verify(Facts(facts.host), tunable, written))
    if problems and tunable.all_or_nothing:
        first = next(iter(problems.values()))
        problems = {entry.subject: problems.get(entry.subject, f"taken back: {first}") for entry in entries}
    wrong = [entry for entry in entries if entry.subject in problems]
    stuck = _revert(facts, tunable, wrong)
    note("verified", [entry for entry in entries if entry.subject not in problems])
    note("reverted", [entry for entry in wrong if entry.subject not in stuck], "; ".join(problems.values())[:500])
    for subject, reason in stuck.items():
        problems[subject] += f"; and going back failed: {reason}"
    return [
        _outcome(change, "failed" if change.subject in problems else "verified", problems.get(change.subject, ""))
        for change in changes
    ]


def _entry(tunable: Tunable[Any], change: Change, own: Mapping[str, str]) -> Entry:
    prior = change.prior["live"]
    wanted: dict[str, str | None] = {}
    if change.persistence.startswith("/"):
        wanted = dict(tunable.entries(change.subject, tunable.written(change.desired)))
    return Entry(
        subject=change.subject,
        prior=prior,
        wrote=tunable.written(change.desired),
        live=tunable.live_writable and not tunable.matches(prior, change.desired),
        entries_prior={key: own.get(key) for key in wanted},
        entries_wrote=wanted,
    )


def _write_all(facts: Facts, tunable: Tunable[Any], entries: Sequence[Entry]) -> dict[Subject, str]:
    problems: dict[Subject, str] = {}
    for entry in entries:
        if not entry.live:
            continue
        try:
            tunable.write(facts, entry.subject, entry.wrote)
        except (WriteFailed, ReadFailed) as error:
            problems[entry.subject] = str(error)
            if tunable.all_or_nothing:
                return problems
    wanted: dict[str, str | None] = {}
    for entry in entries:
        if entry.subject not in problems:
            wanted.update(entry.entries_wrote)
    try:
        restore_entries(facts, tunable, wanted)
    except (WriteFailed, ReadFailed) as error:
        problems.update({entry.subject: str(error) for entry in entries if entry.entries_wrote})
    return problems


def verify(facts: Facts, tunable: Tunable[Any], entries: Sequence[Entry]) -> dict[Subject, str]:
    """Read back what was written: subject to what is wrong with it."""
    problems: dict[Subject, str] = {}
    for entry in entries:
        reading = tunable.read(facts, entry.subject)
        if entry.live:
            if not isinstance(reading.live, Value):
                problems[entry.subject] = f"written, but not read back: {reading.live}"
            elif not tunable.matches(reading.live.value, entry.wrote):
                problems[entry.subject] = f"wrote {entry.wrote!r}, reads back {reading.live.value!r}"
        if entry.entries_wrote and entry.subject not in problems:
            persisted = reading.persisted
            if not isinstance(persisted, Value) or not tunable.matches(persisted.value, entry.wrote):
                problems[entry.subject] = f"the next boot would not set {entry.wrote!r} but {_shown(persisted)!r}"
    return problems


def _revert(facts: Facts, tunable: Tunable[Any], entries: Sequence[Entry]) -> dict[Subject, str]:
    stuck: dict[Subject, str] = {}
    for entry in reversed(entries):
        problem = restore(
            Facts(facts.host),
            tunable,
            entry.subject,
            entry.prior if entry.live else None,
            entry.entries_prior,
            live=entry.live,
        )
        if problem:
            stuck[entry.subject] = problem
    return stuck


__all__ = [
    "Context",
    "JournalError",
    "Judged",
    "Observed",
    "Outcome",
    "apply",
    "diff",
    "make_plan",
    "observe",
    "verify",
]
