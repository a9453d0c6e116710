"""Going back: one setting to a saved value, a crashed run to a known state, a host to its baseline."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from tuneagent.errors import JournalError, ReadFailed, WriteFailed, reason_of
from tuneagent.host import Host
from tuneagent.journal import Entry, Held, Journal, Key, Step
from tuneagent.model import Absent, Lifetime, Setting, Subject, Unreadable, Value
from tuneagent.tunable import Facts, Tunable

GO_ON = "make room for the journal and run undo again"
NOT_UNDERSTOOD = "not understood by this version"


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one setting: `undone`, `gone`, `ended`, `conflict` or `failed`."""

    tunable: str
    subject: Subject
    result: str
    value: Setting = None
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """True where nothing is left to go back to."""
        return self.result in ("undone", "gone", "ended")


class UndoneDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `undo -o json` prints."""

    schema: str = "tuneagent.dev/undone/v1"
    results: tuple[Undone, ...]


def restore_entries(facts: Facts, tunable: Tunable[Any], wanted: Mapping[str, str | None]) -> None:
    """Bring entries of our drop-in to these values; None takes one out. Raises WriteFailed or ReadFailed."""
    if not wanted or tunable.drop_in is None:
        return
    own = tunable.drop_in.entries(facts)
    after = {**own, **{key: text for key, text in wanted.items() if text is not None}}
    for key, text in wanted.items():
        if text is None:
            after.pop(key, None)
    # What is generated from our file may lag behind it after a crash, so there equal entries prove nothing.
    if after != own or tunable.drop_in.generates:
        tunable.drop_in.replace(facts, after)


def restore(
    facts: Facts,
    tunable: Tunable[Any],
    subject: Subject,
    value: Setting,
    entries: Mapping[str, str | None],
    *,
    live: bool,
) -> str | None:
    """Write a saved value and saved entries, and read back. Returns what went wrong, None if nothing did."""
    problem = None
    try:
        if live and tunable.one_way(subject) is None:
            now = tunable.read(facts, subject).live
            # A saved value is that value: `matches` may accept others as good enough.
            if now != Value(value):
                tunable.write(facts, subject, value)
                after = tunable.read(Facts(facts.host), subject).live
                if after != Value(value):
                    problem = f"wrote {value!r}, reads back {after}"
    except Exception as error:  # one setting's trouble, whatever it is, is told of that setting
        problem = reason_of(error)
    try:
        # Whatever became of the running value, our file is ours: it must not set our value at the next boot.
        restore_entries(facts, tunable, entries)
    except Exception as error:
        problem = f"{problem}; {reason_of(error)}" if problem else reason_of(error)
    return problem


def _note(journal: Journal, host: Host, step: Step, held: Held, reason: str) -> None:
    journal.append(held.record(step, Entry(subject=held.subject), time=host.now(), reason=reason))


def _noted(journal: Journal, host: Host, step: Step, held: Held, reason: str, result: Undone) -> Undone:
    """A result with its record. Where that cannot be written, what was done is said all the same."""
    try:
        _note(journal, host, step, held, reason)
    except JournalError as error:
        done = "it is as it should be" if result.value is None else f"it is {result.value!r} now"
        return msgspec.structs.replace(result, result="failed", reason=f"{done}, but not noted: {error}; {GO_ON}")
    return result


def recover(host: Host, journal: Journal, registry: Mapping[str, Tunable[Any]]) -> list[Undone]:
    """Resolve what a crash left between intention and end: all new stays, anything between goes back.

    A group that is all-or-nothing goes back as a whole unless all of it is new.
    """
    open_items = [held for held in journal.held().values() if held.step == "intended"]
    drop_ins = [tunable.drop_in for tunable in registry.values() if tunable.drop_in is not None]
    for path in {path for drop_in in drop_ins for path in drop_in.files}:
        with contextlib.suppress(WriteFailed, ReadFailed):
            host.files.sweep(path)
    facts = Facts(host)
    unfinished: set[tuple[str, str]] = set()
    states: dict[Key, str] = {}
    for held in open_items:
        tunable = registry.get(held.tunable)
        state = "unknown"
        if tunable is not None:
            # What cannot be told of one setting is unknown, and left alone.
            with contextlib.suppress(Exception):
                state = _state(facts, tunable, held)
        states[(held.tunable, held.subject)] = state
        if state != "new" and tunable is not None and tunable.all_or_nothing:
            unfinished.add((held.tunable, held.plan))
    resolved = []
    for held in reversed(open_items):
        state = states[(held.tunable, held.subject)]
        if state == "new" and (held.tunable, held.plan) not in unfinished:
            found = _undone(held, "undone", held.wrote, "found written, kept")
            resolved.append(_noted(journal, host, "done", held, "found written after a crash", found))
            continue
        if state in ("unknown", "foreign"):
            resolved.append(_undone(held, "conflict", None, f"after a crash its value is {state}; left alone"))
            continue
        tunable = registry[held.tunable]
        live = held.last.live and not _boot_ended(held, facts)
        problem = restore(facts, tunable, held.subject, held.prior, held.last.entries_prior, live=live)
        if problem:
            resolved.append(_undone(held, "failed", None, problem))
        else:
            back = _undone(held, "undone", held.prior, "taken back after a crash")
            resolved.append(_noted(journal, host, "reverted", held, "taken back after a crash", back))
    return resolved


def _state(facts: Facts, tunable: Tunable[Any], held: Held) -> str:
    """`new`, `old`, `mixed`, `foreign` (neither value) or `unknown` (not readable)."""
    if tunable.one_way(held.subject) is not None:
        # How far it came cannot be told; made again it does no harm.
        return "old"
    parts: list[str] = []
    reading = tunable.read(facts, held.subject)
    if held.last.live and not _boot_ended(held, facts):
        if not isinstance(reading.live, Value):
            return "unknown"
        if reading.live.value == held.wrote:
            parts.append("new")
        else:
            parts.append("old" if reading.live.value == held.prior else "foreign")
    wanted = held.last.entries_wrote
    if wanted and tunable.drop_in is not None:
        try:
            own = tunable.drop_in.entries(facts)
        except ReadFailed:
            return "unknown"
        now = {key: own.get(key) for key in wanted}
        parts.append("new" if now == wanted else "old")
        if tunable.drop_in.generates and reading.persisted != Value(held.wrote):
            parts.append("old")
    if "foreign" in parts:
        return "foreign"
    if not parts:
        return "old"
    return parts[0] if len(set(parts)) == 1 else "mixed"


def _boot_ended(held: Held, facts: Facts) -> bool:
    """True where a reboot has ended the running value that we wrote."""
    return bool(facts.boot_id) and held.boot_id != facts.boot_id


def undo(
    host: Host,
    journal: Journal,
    registry: Mapping[str, Tunable[Any]],
    keys: set[Key] | None = None,
    *,
    force: bool = False,
) -> list[Undone]:
    """Bring settings held back to their baseline, last written first.

    A value that is no longer the one we wrote is someone else's now: `conflict`, left alone without `force`.
    """
    chosen = [held for key, held in reversed(list(journal.held().items())) if keys is None or key in keys]
    results = _undo_all(host, journal, registry, chosen, force=force)
    # A setting may be held by another one that went back only after it (an energy preference by its governor).
    failed = {(result.tunable, result.subject) for result in results if result.result == "failed"}
    again = [held for held in chosen if (held.tunable, held.subject) in failed]
    if again and len(again) < len(chosen):
        later = {
            (result.tunable, result.subject): result
            for result in _undo_all(host, journal, registry, again, force=force)
        }
        results = [later.get((result.tunable, result.subject), result) for result in results]
    return results


def _undo_all(
    host: Host, journal: Journal, registry: Mapping[str, Tunable[Any]], chosen: list[Held], *, force: bool
) -> list[Undone]:
    results = []
    for held in chosen:
        tunable = registry.get(held.tunable)
        if tunable is None:
            results.append(_undone(held, "failed", None, f"this tuneagent knows no tunable {held.tunable}"))
            continue
        try:
            result = _undo_one(Facts(host), tunable, held, force=force)
        except Exception as error:  # one row costs that row alone
            results.append(_undone(held, "failed", None, f"{reason_of(error)}; it is left as it is"))
            continue
        if result.is_settled:
            result = _noted(journal, host, "undone", held, result.reason or result.result, result)
        results.append(result)
    return results


def foreign_results(journal: Journal) -> list[Undone]:
    """Lines of the journal that this version does not understand, as what undo says of them."""
    return [
        Undone(tunable=one.tunable, subject=subject, result="failed", reason=f"{NOT_UNDERSTOOD} ({one.error}); kept")
        for one in journal.foreign()
        for subject in one.subjects or ("?",)
    ]


def _undo_one(facts: Facts, tunable: Tunable[Any], held: Held, *, force: bool) -> Undone:
    ended = held.lifetime is not Lifetime.PERSISTENT and _boot_ended(held, facts)
    rebooted = _boot_ended(held, facts)
    live = tunable.read(facts, held.subject).live if held.live and not ended else None
    if isinstance(live, Absent):
        live, gone = None, True
    else:
        gone = False
    if live is not None and (kept := tunable.one_way(held.subject)) is not None:
        return _undone(held, "ended", None, kept)
    if isinstance(live, Unreadable) and not force:
        return _undone(held, "failed", None, f"not read, so not written: {live.error}")
    if isinstance(live, Value) and not force and live.value not in (held.wrote, held.baseline):
        reason = f"wrote {held.wrote!r}, found {live.value!r}: changed by someone else; --force writes anyway"
        # The running value is theirs, our file is still ours: without it the next boot does not set our value again.
        problem = _foreign_entries(facts, tunable, held) or restore(
            facts, tunable, held.subject, None, held.entries_baseline, live=False
        )
        if held.entries_wrote:
            reason += f"; our file was left: {problem}" if problem else "; our file no longer sets it"
        return _undone(held, "conflict", live.value, reason)
    if not force and (problem := _foreign_entries(facts, tunable, held)):
        return _undone(held, "conflict", None, problem)
    problem = restore(
        facts, tunable, held.subject, held.baseline, held.entries_baseline, live=held.live and not ended and not gone
    )
    if problem:
        return _undone(held, "failed", None, problem)
    if gone:
        return _undone(held, "gone", None, "no longer there")
    if ended:
        return _undone(held, "ended", None, "a reboot has ended it already")
    reason = "set again by our file at boot, now back to the value before it" if rebooted else ""
    return _undone(held, "undone", held.baseline, reason)


def _foreign_entries(facts: Facts, tunable: Tunable[Any], held: Held) -> str | None:
    if not held.entries_wrote or tunable.drop_in is None:
        return None
    try:
        own = tunable.drop_in.entries(facts)
    except ReadFailed as error:
        return f"our file was not read: {error}"
    for key, text in held.entries_wrote.items():
        if own.get(key) not in (text, held.entries_baseline.get(key), None):
            return f"/{tunable.drop_in.path}: {key} was {text!r} when written, now {own.get(key)!r}"
    return None


def _undone(held: Held, result: str, value: Setting, reason: str) -> Undone:
    return Undone(tunable=held.tunable, subject=held.subject, result=result, value=value, reason=reason)
