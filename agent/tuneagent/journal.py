"""Write-ahead record of changes: what was, what we wrote, how far we got. JSON lines, each with a checksum.

One record and one flush to disk for each tunable, before its writes. Reading the file back gives, for every
setting that we hold, the value before our first write since the last undo.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from tuneagent.errors import JournalError, PathMissing, ReadFailed, WriteFailed
from tuneagent.host import Files
from tuneagent.model import Lifetime, Setting, Subject

VERSION = 1
# A reader takes records one version newer, so that an image can be rolled back.
READABLE = (1, 2)
COMPACT_BYTES = 1024 * 1024
NAME = "journal.jsonl"

Step = Literal["intended", "done", "verified", "reverted", "left", "undone"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One subject of a record. `entries_*` are our own drop-in's entries, None for one that is not there."""

    subject: Subject
    prior: Setting = None
    wrote: Setting = None
    live: bool = True
    entries_prior: dict[str, str | None] = {}
    entries_wrote: dict[str, str | None] = {}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line. All steps but `intended` only name the subjects they are about in `entries`.

    `reverted` takes back the last intention alone, `undone` all that we ever wrote to the subject. `left` says what was
    there after a write failed and going back failed too: `wrote` is what was read then.
    """

    step: Step
    time: float
    plan: str
    tunable: str
    lifetime: Lifetime
    boot_id: str
    kernel: str = ""
    driver: str = ""
    profile: str = ""
    revision: str = ""
    reason: str = ""
    entries: tuple[Entry, ...] = ()


class JournalDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `journal -o json` prints."""

    schema: str = "tuneagent.dev/journal/v1"
    records: tuple[Record, ...]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that we changed and have not undone. `baseline` is its value before our first write.

    `last` is the entry of the newest intention alone, for recovery.
    """

    tunable: str
    subject: Subject
    baseline: Setting
    wrote: Setting
    prior: Setting
    live: bool
    entries_baseline: dict[str, str | None]
    entries_wrote: dict[str, str | None]
    last: Entry
    lifetime: Lifetime
    boot_id: str
    kernel: str
    driver: str
    profile: str
    revision: str
    plan: str
    time: float
    step: Step

    def record(self, step: Step, entry: Entry, *, time: float | None = None, reason: str = "") -> Record:
        """A record about this setting, under the plan that wrote it."""
        return Record(
            step=step,
            time=self.time if time is None else time,
            plan=self.plan,
            tunable=self.tunable,
            lifetime=self.lifetime,
            boot_id=self.boot_id,
            kernel=self.kernel,
            driver=self.driver,
            profile=self.profile,
            revision=self.revision,
            reason=reason,
            entries=(entry,),
        )


Key = tuple[str, Subject]


class NotUnderstood(msgspec.Struct, frozen=True, kw_only=True):
    """A sound line that this version cannot read, as of a newer version. It is kept, and costs itself alone."""

    tunable: str
    subjects: tuple[str, ...]
    error: str
    line: bytes


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """A journal's records, the lines that are not understood, and the length of its sound part in bytes."""

    records: tuple[Record, ...]
    foreign: tuple[NotUnderstood, ...]
    sound: int


# A line as `encode` writes it. Its record's own bytes carry the checksum, whatever is in them.
_LINE = rb'\{"v":([0-9]{1,9}),"crc":"([0-9a-f]{8})","record":(.*)\}\Z'


class _Line(msgspec.Struct, frozen=True):
    v: int
    crc: str
    record: msgspec.Raw


class _AnyEntry(msgspec.Struct, frozen=True):
    subject: str = "?"


class _AnyRecord(msgspec.Struct, frozen=True):
    tunable: str = "?"
    entries: tuple[_AnyEntry, ...] = ()


def encode(record: Record) -> bytes:
    """One line with version and checksum."""
    body = msgspec.json.encode(record)
    crc = f"{zlib.crc32(body):08x}"
    return msgspec.json.encode(_Line(VERSION, crc, msgspec.Raw(body))) + b"\n"


def decode(data: bytes) -> Decoded:
    """What a journal holds.

    A last line without its end is what a crash during an append leaves: it was never acted on, and is dropped.
    Damage anywhere else, a whole last line included, raises JournalError: then nobody knows what to go back to.
    """
    records: list[Record] = []
    foreign: list[NotUnderstood] = []
    sound = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        outer = re.match(_LINE, line)
        if outer is None or f"{zlib.crc32(outer.group(3)):08x}".encode() != outer.group(2):
            why = "not a line of a journal" if outer is None else "checksum differs"
            raise JournalError(f"journal line {number} is damaged ({why}); nothing is written")
        if int(outer.group(1)) not in READABLE:
            raise JournalError(
                f"journal line {number}: version {int(outer.group(1))}, this tuneagent reads up to {READABLE[-1]}"
            )
        try:
            records.append(msgspec.json.decode(outer.group(3), type=Record))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            foreign.append(_not_understood(line, outer.group(3), f"line {number}: {error}"))
        sound += len(line) + 1
    return Decoded(records=tuple(records), foreign=tuple(foreign), sound=sound)


def _not_understood(line: bytes, record: bytes, error: str) -> NotUnderstood:
    try:
        about = msgspec.json.decode(record, type=_AnyRecord)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        about = _AnyRecord()
    subjects = tuple(entry.subject for entry in about.entries)
    return NotUnderstood(tunable=about.tunable, subjects=subjects, error=error, line=line)


def fold(records: Iterable[Record]) -> dict[Key, Held]:
    """Settings held after all records, in the order of their first write."""
    held: dict[Key, Held] = {}
    earlier: dict[Key, Held | None] = {}
    for record in records:
        for entry in record.entries:
            key = (record.tunable, entry.subject)
            before = held.get(key)
            if record.step == "undone":
                held.pop(key, None)
            elif record.step == "intended":
                earlier[key] = before
                held[key] = _hold(record, entry, before)
            elif record.step == "reverted":
                previous = earlier.get(key)
                held.pop(key, None)
                if previous is not None:
                    held[key] = previous
            elif before is not None and record.step == "left":
                held[key] = msgspec.structs.replace(before, step=record.step, wrote=entry.wrote)
            elif before is not None:
                held[key] = msgspec.structs.replace(before, step=record.step)
    return held


def _hold(record: Record, entry: Entry, before: Held | None) -> Held:
    baseline, live, lifetime = entry.prior, entry.live, record.lifetime
    entries_baseline, entries_wrote = dict(entry.entries_prior), dict(entry.entries_wrote)
    if before is not None:
        # What a reboot or driver reload took away is no longer ours: the value found then is the new baseline.
        ended = before.lifetime is not Lifetime.PERSISTENT and before.boot_id != record.boot_id
        baseline = entry.prior if ended else before.baseline
        # A later repair may touch the running value alone, or our file alone: what stands of earlier writes is held.
        live = entry.live or (before.live and not ended)
        entries_baseline = {**entries_baseline, **before.entries_baseline}
        entries_wrote = {**before.entries_wrote, **entries_wrote}
        if entries_wrote:
            lifetime = Lifetime.PERSISTENT
    return Held(
        tunable=record.tunable,
        subject=entry.subject,
        baseline=baseline,
        wrote=entry.wrote,
        prior=entry.prior,
        live=live,
        entries_baseline=entries_baseline,
        entries_wrote=entries_wrote,
        last=entry,
        lifetime=lifetime,
        boot_id=record.boot_id,
        kernel=record.kernel,
        driver=record.driver,
        profile=record.profile,
        revision=record.revision,
        plan=record.plan,
        time=record.time,
        step="intended",
    )


class Journal:
    """The journal of one host, in `folder` under `files`."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self.folder = folder
        self.path = f"{folder}/{NAME}"

    def records(self) -> list[Record]:
        """All records that are understood. Raises JournalError."""
        return list(decode(self._data()).records)

    def foreign(self) -> list[NotUnderstood]:
        """Sound lines that this version does not understand. Raises JournalError."""
        return list(decode(self._data()).foreign)

    def held(self) -> dict[Key, Held]:
        """Settings held now."""
        return fold(self.records())

    def append(self, record: Record) -> None:
        """Add a record. Raises JournalError: begin nothing then.

        What allows or ends something is on disk when this returns. That a write was done and verified need not be:
        if it is lost, recovery looks at the setting and finds the same.
        """
        add = self._files.append if record.step in ("done", "verified") else self._files.append_synced
        try:
            add(self.path, encode(record))
        except WriteFailed as error:
            raise JournalError(f"the journal cannot be written: {error}") from None

    def open_for_writing(self) -> None:
        """Make the folder and cut off a torn last line. Call with the host's lock held."""
        try:
            self._files.make_folder(self.folder)
            data = self._data()
            sound = decode(data).sound
            if sound != len(data):
                self._files.replace(self.path, data[:sound], mode=0o600)
        except WriteFailed as error:
            raise JournalError(f"the journal cannot be written, so nothing was begun: {error}") from None

    def shrink(self, limit_bytes: int = COMPACT_BYTES) -> None:
        """Compact a long file. Only after recovery: an open intention must keep what it came from."""
        data = self._data()
        if len(data) <= limit_bytes:
            return
        found = decode(data)
        lines = [one.line + b"\n" for one in found.foreign] + [encode(one) for one in compact(found.records)]
        # What cannot be made shorter now stays long: whether there is room is seen at the next append.
        with contextlib.suppress(WriteFailed):
            self._files.replace(self.path, b"".join(lines), mode=0o600)

    def _data(self) -> bytes:
        try:
            return self._files.read_bytes(self.path)
        except PathMissing:
            if self._files.exists(self.folder) and not self._files.is_dir(self.folder):
                raise JournalError(f"{self.folder} is not a folder: there is no journal to read") from None
            return b""
        except ReadFailed as error:
            raise JournalError(f"the journal cannot be read: {error}; it is for root alone") from None


def compact(records: Sequence[Record]) -> list[Record]:
    """The fewest records that fold to the same settings held, baselines included."""
    kept: list[Record] = []
    for held in fold(records).values():
        first = Entry(
            subject=held.subject,
            prior=held.baseline,
            wrote=held.wrote,
            live=held.live,
            entries_prior=held.entries_baseline,
            entries_wrote=held.entries_wrote,
        )
        kept.append(held.record("intended", first))
        if held.step != "intended":
            wrote = held.wrote if held.step == "left" else None
            kept.append(held.record(held.step, Entry(subject=held.subject, wrote=wrote)))
    return kept
