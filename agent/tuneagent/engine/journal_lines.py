"""Journal records as lines with a version and a checksum, and back."""

from __future__ import annotations

import re
import zlib

import msgspec

from tuneagent.contracts.journal import Record
from tuneagent.errors import JournalError

VERSION = 2
# A reader takes records one version newer, so that an image can be rolled back.
READABLE = (2, 3)


class NotUnderstood(msgspec.Struct, frozen=True, kw_only=True):
    """A sound line that this version cannot read, as of a newer version. It is kept, and affects no other line."""

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


class _AnySubject(msgspec.Struct, frozen=True):
    subject: str = "?"


class _AnyRecord(msgspec.Struct, frozen=True):
    tunable: str = "?"
    subjects: tuple[_AnySubject, ...] = ()


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
                f"journal line {number}: version {int(outer.group(1))}, "
                f"this tuneagent reads {READABLE[0]} and {READABLE[-1]}"
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
    subjects = tuple(one.subject for one in about.subjects)
    return NotUnderstood(tunable=about.tunable, subjects=subjects, error=error, line=line)
