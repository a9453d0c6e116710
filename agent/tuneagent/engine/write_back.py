"""One setting back to a saved value, read back, and noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tuneagent.contracts.journal import Entry, Step
from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Setting, Subject, Value
from tuneagent.engine.applied_settings import AppliedSetting
from tuneagent.engine.journal import Journal
from tuneagent.errors import JournalError, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.host.machine import Host
from tuneagent.tunables.base import Tunable

GO_ON = "make room for the journal and run undo again"


def write_back_entries(facts: Facts, tunable: Tunable[Any], wanted: Mapping[str, str | None]) -> None:
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


def write_back(
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
        write_back_entries(facts, tunable, entries)
    except Exception as error:
        problem = f"{problem}; {reason_of(error)}" if problem else reason_of(error)
    return problem


def note(journal: Journal, host: Host, step: Step, held: AppliedSetting, reason: str) -> None:
    journal.append(held.record(step, Entry(subject=held.subject), time=host.now(), reason=reason))


def noted(journal: Journal, host: Host, step: Step, held: AppliedSetting, reason: str, result: Undone) -> Undone:
    """A result with its record. Where that cannot be written, what was done is said all the same."""
    try:
        note(journal, host, step, held, reason)
    except JournalError as error:
        done = "it is as it should be" if result.value is None else f"it is {result.value!r} now"
        return msgspec.structs.replace(result, result="failed", reason=f"{done}, but not noted: {error}; {GO_ON}")
    return result


def boot_ended(held: AppliedSetting, facts: Facts) -> bool:
    """True where a reboot has ended the running value that we wrote."""
    return bool(facts.boot_id) and held.boot_id != facts.boot_id


def undone_as(held: AppliedSetting, result: str, value: Setting, reason: str) -> Undone:
    return Undone(tunable=held.tunable, subject=held.subject, result=result, value=value, reason=reason)
