"""Apply a plan and verify it. Journal, write, read back; what fails is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tuneagent.contracts.journal import Record, Step, SubjectRecord
from tuneagent.contracts.outcome import Outcome, Undone
from tuneagent.contracts.plan import Change, Plan
from tuneagent.contracts.report import ProfileName
from tuneagent.contracts.values import Disruption, Lifetime, Reading, Setting, Subject, Value
from tuneagent.engine.applied_settings import Key
from tuneagent.engine.journal import REASON_BYTES, Journal
from tuneagent.engine.plan import BASELINE
from tuneagent.engine.write_back import write_back, write_back_entries
from tuneagent.errors import JournalError, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.spoken_values import in_words, seen_in_words
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.tunables.base import AnyTunable


class Context(msgspec.Struct, frozen=True):
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


# What was read back of each setting that was written; None where it must be read anew.
Verified = dict[Key, "Reading | None"]


def apply(
    facts: Facts,
    plan: Plan,
    journal: Journal,
    registry: Mapping[str, AnyTunable],
    context: Context,
    *,
    allowed: Callable[[Change], bool] = is_live,
    undo_applied: Callable[[Key], Undone] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Outcome], Verified]:
    """Write a plan, tunable by tunable: journal, write, read back; what fails goes back to what it was.

    Where the journal cannot be written nothing more is begun; the outcomes say what was done until then. What is not
    `allowed` is withheld. Raises JournalError where there is no room for the plan, before its first write.
    """
    withheld = [change for change in plan.changes if not allowed(change)]
    outcomes = [_outcome(one, "withheld", f"needs --max-disruption {one.disruption.value}") for one in withheld]
    groups = _grouped([change for change in plan.changes if allowed(change)])
    run = _Run(facts, plan.digest, journal, context)
    prepared = {key: _prepared(run, registry[key[0]], changes) for key, changes in groups.items() if not key[1]}
    if groups:
        journal.keep_room(one for one in prepared.values() if isinstance(one, Record))
    failed: set[str] = set()
    for (name, to_baseline), changes in groups.items():
        tunable = registry[name]
        blocked = next((f"{other} failed before it" for other in tunable.after if other in failed), "")
        reason = blocked or run.no_journal or ("stopped" if stop() else "")
        if reason:
            outcomes += [_outcome(change, "skipped", reason) for change in changes]
            continue
        if to_baseline and undo_applied is not None:
            results = [_outcome_of_undo(change, undo_applied) for change in changes]
            run.verified.update({(one.tunable, one.subject): None for one in changes})
            # These were not written by this pass: what it has read of our files is no longer valid.
            run.facts = run.facts.again()
        else:
            results = run.group(tunable, changes, prepared[(name, to_baseline)])
        if any(outcome.result == "failed" for outcome in results):
            failed.add(name)
        outcomes += results
    if groups:
        journal.keep_room()
    return outcomes, run.verified


def _grouped(changes: Sequence[Change]) -> dict[tuple[str, bool], list[Change]]:
    """Changes of one tunable together, those that go back to the baseline apart."""
    groups: dict[tuple[str, bool], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.tunable, change.persistence == BASELINE), []).append(change)
    return groups


def _outcome(change: Change, result: str, reason: str = "") -> Outcome:
    return Outcome(tunable=change.tunable, subject=change.subject, result=result, reason=reason)


def _outcome_of_undo(change: Change, undo_applied: Callable[[Key], Undone]) -> Outcome:
    done = undo_applied((change.tunable, change.subject))
    if not done.is_settled:
        return _outcome(change, "failed", done.reason or done.result)
    if done.result == "undone":
        return _outcome(change, "verified", done.reason or "back to its baseline")
    return _outcome(change, "ended", done.reason)


def _prepared(run: _Run, tunable: AnyTunable, changes: Sequence[Change]) -> Record | Exception:
    """The intention of one tunable, made before anything is written; an error affects only that tunable."""
    try:
        own = tunable.drop_in.entries(run.facts) if tunable.drop_in is not None else {}
        subjects = [_subject_record(tunable, change, own) for change in changes]
    except Exception as error:
        return error
    persistent = any(one.drop_in_wrote for one in subjects)
    return run.record(tunable, "intended", subjects, Lifetime.PERSISTENT if persistent else tunable.lifetime)


def _subject_record(tunable: AnyTunable, change: Change, own: Mapping[str, str]) -> SubjectRecord:
    wrote = tunable.written(change.desired)
    wanted: dict[str, str | None] = {}
    if change.persistence.startswith("/"):
        wanted = dict(tunable.entries(change.subject, wrote))
    is_right = tunable.matches(change.subject, change.prior.live, change.desired)
    return SubjectRecord(
        subject=change.subject,
        prior=change.prior.live,
        raw=change.prior.raw,
        wrote=wrote,
        live=tunable.live_writable and not is_right,
        drop_in_prior={key: own.get(key) for key in wanted},
        drop_in_wrote=wanted,
    )


class _Run(msgspec.Struct):
    """One run of a plan: what goes into its records, and what came of it."""

    facts: Facts
    plan: str
    journal: Journal
    context: Context
    verified: Verified = msgspec.field(default_factory=dict)
    no_journal: str = ""

    def record(
        self,
        tunable: AnyTunable,
        step: Step,
        subjects: Iterable[SubjectRecord],
        lifetime: Lifetime,
        reason: str = "",
    ) -> Record:
        """A record of this run."""
        return Record(
            step=step,
            time=self.context.host_now(),
            plan=self.plan,
            tunable=tunable.name,
            lifetime=lifetime,
            boot_id=self.context.boot_id,
            kernel=self.context.kernel,
            driver=self.context.driver,
            profile=self.context.profile.name,
            revision=self.context.profile.revision,
            reason=reason[:REASON_BYTES],
            subjects=tuple(subjects),
        )

    def group(self, tunable: AnyTunable, changes: Sequence[Change], intended: Record | Exception) -> list[Outcome]:
        """One tunable: journal, write, read back, take back what failed."""
        if isinstance(intended, Exception):
            return [_outcome(change, "failed", f"not begun: {reason_of(intended)}") for change in changes]
        try:
            self.journal.append(intended)
        except JournalError as error:
            self.no_journal = f"not begun: {error}"
            return [_outcome(change, "skipped", self.no_journal) for change in changes]
        unnoted: list[str] = []

        def note(step: Step, subjects: Iterable[SubjectRecord], reason: str = "") -> None:
            """Note what has happened. Where that fails it has happened all the same, and recovery finds it again."""
            found = tuple(subjects)
            if found:
                try:
                    self.journal.append(self.record(tunable, step, found, intended.lifetime, reason))
                except JournalError as error:
                    unnoted.append(str(error))

        subjects = intended.subjects
        problems = _write_all(self.facts, tunable, subjects, self.journal)
        written = [one for one in subjects if one.subject not in problems]
        note("done", _named(written))
        readings, wrong = verify(self.facts.again(), tunable, written)
        problems.update(wrong)
        if problems and tunable.all_or_nothing:
            first = next(iter(problems.values()))
            problems = {one.subject: problems.get(one.subject, f"taken back: {first}") for one in subjects}
        failed = [one for one in subjects if one.subject in problems]
        stuck = _take_back(self.facts, tunable, failed, self.journal)
        note("verified", _named(one for one in subjects if one.subject not in problems))
        reason = "; ".join(problems.values())
        note("reverted", _named(one for one in failed if one.subject not in stuck), reason)
        left = {one.subject: _now(self.facts, tunable, one.subject) for one in failed if one.subject in stuck}
        for subject, why in stuck.items():
            problems[subject] += f"; and going back failed: {why}; {left[subject][1]}"
        # What is there now is ours to undo, whatever it is.
        found = [(subject, value) for subject, (value, _) in left.items() if value is not None]
        known = [SubjectRecord(subject=subject, wrote=value) for subject, value in found]
        note("left", known, "a write failed, and so did going back")
        for one in subjects:
            reading = None if one.subject in problems else readings.get(one.subject)
            self.verified[(tunable.name, one.subject)] = reading
        told = f"made, but not noted: {unnoted[0]}; the next apply or undo settles it" if unnoted else ""
        return [
            _outcome(change, "failed" if change.subject in problems else "verified", problems.get(change.subject, told))
            for change in changes
        ]


def _named(subjects: Iterable[SubjectRecord]) -> list[SubjectRecord]:
    """The subjects alone: what they were stands in the intention."""
    return [SubjectRecord(subject=one.subject) for one in subjects]


def _now(facts: Facts, tunable: AnyTunable, subject: Subject) -> tuple[Setting, str]:
    """What is there, read again, and a sentence that says so."""
    try:
        live = tunable.read(facts.again(), subject).live
    except Exception as error:
        return None, f"what is there now is not known: {reason_of(error)}"
    if isinstance(live, Value):
        return live.value, f"there now: {in_words(live.value)}"
    return None, f"what is there now is not known: {seen_in_words(live)}"


def _write_all(
    facts: Facts, tunable: AnyTunable, subjects: Sequence[SubjectRecord], journal: Journal
) -> dict[Subject, str]:
    problems: dict[Subject, str] = {}
    for one in subjects:
        if not one.live:
            continue
        try:
            tunable.write(facts, one.subject, one.wrote)
        except Exception as error:  # one subject's trouble, whatever it is, is told of that subject
            problems[one.subject] = reason_of(error)
            if tunable.all_or_nothing:
                return problems
    wanted: dict[str, str | None] = {}
    for one in subjects:
        if one.subject not in problems:
            wanted.update(one.drop_in_wrote)
    try:
        write_back_entries(facts, tunable, wanted)
    except Exception as error:
        problems.update({one.subject: reason_of(error) for one in subjects if one.drop_in_wrote})
    return problems


def verify(
    facts: Facts, tunable: AnyTunable, subjects: Sequence[SubjectRecord]
) -> tuple[dict[Subject, Reading], dict[Subject, str]]:
    """Read back what was written: what each subject is now, and what is wrong with it."""
    readings: dict[Subject, Reading] = {}
    problems: dict[Subject, str] = {}
    for one in subjects:
        try:
            reading = readings[one.subject] = tunable.read(facts, one.subject)
        except Exception as error:
            problems[one.subject] = f"written, but not read back: {reason_of(error)}"
            continue
        if one.live:
            if not isinstance(reading.live, Value):
                problems[one.subject] = f"written, but not read back: {seen_in_words(reading.live)}"
            elif not tunable.matches(one.subject, reading.live.value, one.wrote):
                problems[one.subject] = f"wrote {in_words(one.wrote)}, reads back {in_words(reading.live.value)}"
        if one.drop_in_wrote and one.subject not in problems:
            persisted = reading.persisted
            if not isinstance(persisted, Value) or not tunable.matches(one.subject, persisted.value, one.wrote):
                told = f"the next boot would not set {in_words(one.wrote)} but {seen_in_words(persisted)}"
                problems[one.subject] = told
    return readings, problems


def _take_back(
    facts: Facts, tunable: AnyTunable, subjects: Sequence[SubjectRecord], journal: Journal
) -> dict[Subject, str]:
    stuck: dict[Subject, str] = {}
    for one in reversed(subjects):
        problem = write_back(
            facts.again(),
            tunable,
            one.subject,
            one.prior if one.live else None,
            one.drop_in_prior,
            live=one.live,
            raw=one.raw,
            journal=journal,
        )
        if problem:
            stuck[one.subject] = problem
    return stuck
