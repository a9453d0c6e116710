"""The rest of the way: apply a plan and verify it. Journal, write, read back; what fails goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuneagent.contracts.journal import Entry, Record, Step
from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change, Plan
from tuneagent.contracts.report import ProfileName
from tuneagent.contracts.values import Disruption, Lifetime, Setting, Subject, Value
from tuneagent.engine.applied_settings import Key
from tuneagent.engine.assess import shown
from tuneagent.engine.journal import Journal
from tuneagent.engine.plan import BASELINE
from tuneagent.engine.write_back import write_back, write_back_entries
from tuneagent.errors import JournalError, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.tunables.base import Tunable


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


def is_live(change: Change) -> bool:
    """Whether a change disturbs nobody."""
    return change.disruption is Disruption.LIVE


def apply(
    facts: Facts,
    plan: Plan,
    journal: Journal,
    registry: Mapping[str, Tunable[Any]],
    context: Context,
    *,
    allowed: Callable[[Change], bool] = is_live,
    undo_held: Callable[[Key], str | None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Write a plan, tunable by tunable: journal, write, read back; what fails goes back to what it was.

    Where the journal cannot be written nothing more is begun; the outcomes say what was done until then. What is not
    `allowed` is withheld.
    """
    outcomes: list[Outcome] = []
    failed: set[str] = set()
    no_journal = ""
    groups: dict[tuple[str, bool], list[Change]] = {}
    for change in plan.changes:
        if not allowed(change):
            reason = f"needs --max-disruption {change.disruption.value}"
            outcomes.append(_outcome(change, "withheld", reason))
        else:
            groups.setdefault((change.tunable, change.persistence == BASELINE), []).append(change)
    for (name, to_baseline), changes in groups.items():
        blocked = [dependency for dependency in registry[name].after if dependency in failed]
        if blocked or no_journal or stop():
            reason = f"{blocked[0]} failed before it" if blocked else no_journal or "stopped"
            outcomes += [_outcome(change, "skipped", reason) for change in changes]
            continue
        if to_baseline and undo_held is not None:
            results = [_outcome_of_undo(change, undo_held) for change in changes]
        else:
            try:
                results = _apply_group(facts, registry[name], changes, plan.digest, journal, context)
            except JournalError as error:
                no_journal = f"not begun: {error}"
                results = [_outcome(change, "skipped", no_journal) for change in changes]
            except Exception as error:  # before anything of this tunable was written
                results = [_outcome(change, "failed", f"not begun: {reason_of(error)}") for change in changes]
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
        whole = step in ("intended", "left")
        found = tuple(subset) if whole else tuple(Entry(subject=entry.subject) for entry in subset)
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

    unnoted: list[str] = []

    def note_done(step: Step, subset: Iterable[Entry], reason: str = "") -> None:
        """Note what has happened. Where that fails it has happened all the same, and recovery finds it again."""
        try:
            note(step, subset, reason)
        except JournalError as error:
            unnoted.append(str(error))

    note("intended", entries)
    problems = _write_all(facts, tunable, entries)
    written = [entry for entry in entries if entry.subject not in problems]
    note_done("done", written)
    problems.update(verify(Facts(facts.host), tunable, written))
    if problems and tunable.all_or_nothing:
        first = next(iter(problems.values()))
        problems = {entry.subject: problems.get(entry.subject, f"taken back: {first}") for entry in entries}
    wrong = [entry for entry in entries if entry.subject in problems]
    stuck = _revert(facts, tunable, wrong)
    note_done("verified", [entry for entry in entries if entry.subject not in problems])
    note_done("reverted", [entry for entry in wrong if entry.subject not in stuck], "; ".join(problems.values())[:500])
    left = {entry.subject: _now(facts, tunable, entry.subject) for entry in wrong if entry.subject in stuck}
    for subject, reason in stuck.items():
        problems[subject] += f"; and going back failed: {reason}; {left[subject][1]}"
    # What is there now is ours to undo, whatever it is.
    known = [Entry(subject=subject, wrote=value) for subject, (value, _) in left.items() if value is not None]
    note_done("left", known, "a write failed, and so did going back")
    told = f"made, but not noted: {unnoted[0]}; the next apply or undo settles it" if unnoted else ""
    return [
        _outcome(change, "failed" if change.subject in problems else "verified", problems.get(change.subject, told))
        for change in changes
    ]


def _now(facts: Facts, tunable: Tunable[Any], subject: Subject) -> tuple[Setting, str]:
    """What is there, read again, and a sentence that says so."""
    try:
        live = tunable.read(Facts(facts.host), subject).live
    except Exception as error:
        return None, f"what is there now is not known: {reason_of(error)}"
    if isinstance(live, Value):
        return live.value, f"there now: {live.value!r}"
    return None, f"what is there now is not known: {live}"


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
        except Exception as error:  # one subject's trouble, whatever it is, is told of that subject
            problems[entry.subject] = reason_of(error)
            if tunable.all_or_nothing:
                return problems
    wanted: dict[str, str | None] = {}
    for entry in entries:
        if entry.subject not in problems:
            wanted.update(entry.entries_wrote)
    try:
        write_back_entries(facts, tunable, wanted)
    except Exception as error:
        problems.update({entry.subject: reason_of(error) for entry in entries if entry.entries_wrote})
    return problems


def verify(facts: Facts, tunable: Tunable[Any], entries: Sequence[Entry]) -> dict[Subject, str]:
    """Read back what was written: subject to what is wrong with it."""
    problems: dict[Subject, str] = {}
    for entry in entries:
        try:
            reading = tunable.read(facts, entry.subject)
        except Exception as error:
            problems[entry.subject] = f"written, but not read back: {reason_of(error)}"
            continue
        if entry.live:
            if not isinstance(reading.live, Value):
                problems[entry.subject] = f"written, but not read back: {reading.live}"
            elif not tunable.matches(reading.live.value, entry.wrote):
                problems[entry.subject] = f"wrote {entry.wrote!r}, reads back {reading.live.value!r}"
        if entry.entries_wrote and entry.subject not in problems:
            persisted = reading.persisted
            if not isinstance(persisted, Value) or not tunable.matches(persisted.value, entry.wrote):
                problems[entry.subject] = f"the next boot would not set {entry.wrote!r} but {shown(persisted)!r}"
    return problems


def _revert(facts: Facts, tunable: Tunable[Any], entries: Sequence[Entry]) -> dict[Subject, str]:
    stuck: dict[Subject, str] = {}
    for entry in reversed(entries):
        problem = write_back(
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
