"""One setting back to a saved value, read back, and noted."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tuneagent.contracts.journal import Step
from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Setting, Subject, Value
from tuneagent.engine.applied_settings import AppliedSetting
from tuneagent.engine.journal import REASON_BYTES, Journal
from tuneagent.errors import JournalError, WriteFailed, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.spoken_values import in_words, seen_in_words
from tuneagent.host.machine import Host
from tuneagent.tunables.base import AnyTunable

GO_ON = "make room for the journal and run undo again"
Raw = str | msgspec.UnsetType


def write_back_entries(
    facts: Facts, tunable: AnyTunable, wanted: Mapping[str, str | None], journal: Journal | None = None
) -> None:
    """Bring entries of our drop-in to these values; None takes one out. Raises WriteFailed or ReadFailed.

    On a full disk the room that `journal` keeps in reserve is given to the file.
    """
    if not wanted or tunable.drop_in is None:
        return
    own = tunable.drop_in.entries(facts)
    after = {**own, **{key: text for key, text in wanted.items() if text is not None}}
    for key, text in wanted.items():
        if text is None:
            after.pop(key, None)
    if after == own and tunable.drop_in.is_whole(facts, after):
        return
    try:
        tunable.drop_in.replace(facts, after)
    except WriteFailed as error:
        size = sum(len(key) + len(text) for key, text in after.items())
        if not (error.is_full and journal is not None and journal.give_room(2 * size)):
            raise
        tunable.drop_in.replace(facts, after)


def write_back(
    facts: Facts,
    tunable: AnyTunable,
    subject: Subject,
    value: Setting,
    entries: Mapping[str, str | None],
    *,
    live: bool,
    raw: Raw = msgspec.UNSET,
    journal: Journal | None = None,
) -> str | None:
    """Write a saved value and saved entries, and read back. Returns what went wrong, None if nothing did.

    `raw` is the very text of the saved value.
    """
    problem = None
    try:
        if live and tunable.one_way(subject) is None:
            found = tunable.read(facts, subject)
            # A saved value is that value: `matches` may accept others as good enough.
            if found.live != Value(value) or found.raw != raw:
                tunable.write_back(facts, subject, value, raw)
                after = tunable.read(facts.again(), subject).live
                if after != Value(value):
                    problem = f"wrote {in_words(value)}, reads back {seen_in_words(after)}"
    except Exception as error:  # one setting's trouble, whatever it is, is told of that setting
        problem = reason_of(error)
    try:
        # Whatever became of the running value, our file is ours: it must not set our value at the next boot.
        write_back_entries(facts, tunable, entries, journal)
    except Exception as error:
        problem = f"{problem}; {reason_of(error)}" if problem else reason_of(error)
    return problem


def noted(journal: Journal, host: Host, step: Step, setting: AppliedSetting, reason: str, result: Undone) -> Undone:
    """A result with its record. If the record cannot be written, the result still says what was done."""
    try:
        journal.append(setting.record(step, time=host.now(), reason=reason[:REASON_BYTES]))
    except JournalError as error:
        done = "it is as it should be" if result.value is None else f"it is {in_words(result.value)} now"
        return msgspec.structs.replace(result, result="failed", reason=f"{done}, but not noted: {error}; {GO_ON}")
    return result


def boot_ended(setting: AppliedSetting, facts: Facts) -> bool:
    """True where a reboot has ended the running value that we wrote."""
    return bool(facts.boot_id) and setting.boot_id != facts.boot_id


def undone_as(setting: AppliedSetting, result: str, value: Setting, reason: str) -> Undone:
    """What became of one setting."""
    return Undone(tunable=setting.tunable, subject=setting.subject, result=result, value=value, reason=reason)


_CONTROL = lazy_regex(r"[\x00-\x1f\x7f]")


def strange_record(tunable: AnyTunable, setting: AppliedSetting) -> str | None:
    """Why this record cannot be ours: it would write what no profile can name. None for a valid one.

    Someone who forges a record must not gain more than a profile allows. Bounds on values do not count: what
    was there before can always be written back.
    """
    told = "is nothing that a profile can set, so no tuneagent wrote this record; nothing is written"
    if not tunable.could_name(setting.subject):
        return f"{setting.tunable} {setting.subject} {told}"
    entries = {**setting.drop_in_baseline, **setting.drop_in_wrote, **setting.last.drop_in_prior}
    known = {key for value in (setting.wrote, setting.baseline) for key in _entries(tunable, setting.subject, value)}
    for key, text in entries.items():
        if key not in known:
            return f"line {key!r} of /{tunable.drop_in.path if tunable.drop_in else '?'} {told}"
        if text is not None and _CONTROL.search(text):
            return f"line {key!r} holds control characters, so no tuneagent wrote this record; nothing is written"
    return None


def _entries(tunable: AnyTunable, subject: Subject, value: Setting) -> Mapping[str, str | None]:
    try:
        return tunable.entries(subject, value)
    except Exception:  # a value that makes no entry: the other one may
        return {}
