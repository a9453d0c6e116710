"""Write-ahead record of changes, on disk before the writes that it allows.

One record and one flush to disk for each tunable, before its writes. Reading the file back gives, for every setting
that we changed, the value before our first write since the last undo. A reserve beside it keeps room for going back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import msgspec

from tuneagent.contracts.journal import Record
from tuneagent.engine.applied_settings import AppliedSetting, Key, compact, fold_one
from tuneagent.engine.journal_lines import Decoded, NotUnderstood, decode, encode
from tuneagent.errors import JournalError, PathMissing, ReadFailed, StateFolderUnsafe, WriteFailed
from tuneagent.host.state_folder import Stamp, StateFolder

COMPACT_BYTES = 1024 * 1024
NAME = "journal.jsonl"
RESERVE = "journal.reserve"
# Blocks that files of ours may need besides the records: our drop-ins are rewritten beside themselves at undo.
RESERVE_BASE_BYTES = 64 * 1024
# What goes back needs a record for each subject, of the length of its own and a reason of at most this length.
REASON_BYTES = 512
# Records of one subject besides the intention: done, verified, and reverted or left.
STEPS = 3


class _Parsed(msgspec.Struct):
    """The file as it was parsed last, and kept up to date with our own appends."""

    stamp: Stamp | None
    decoded: Decoded
    applied: dict[Key, AppliedSetting] = msgspec.field(default_factory=dict)
    earlier: dict[Key, AppliedSetting | None] = msgspec.field(default_factory=dict)


class Journal:
    """The journal of one host, in its state folder. A file that has not moved is parsed once."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._parsed: _Parsed | None = None

    @property
    def path(self) -> str:
        """The file, for messages."""
        return self._state.path(NAME)

    def records(self) -> list[Record]:
        """All records that are understood. Raises JournalError."""
        return list(self._current().decoded.records)

    def foreign(self) -> list[NotUnderstood]:
        """Sound lines that this version does not understand. Raises JournalError."""
        return list(self._current().decoded.foreign)

    def applied(self) -> Mapping[Key, AppliedSetting]:
        """Settings that we changed and have not undone: the same object as long as the file has not moved."""
        return self._current().applied

    def append(self, record: Record) -> None:
        """Add a record. Raises JournalError: begin nothing then.

        What allows or ends something is on disk when this returns. That a write was done and verified need not be:
        if it is lost, recovery looks at the setting and finds the same. On a full disk, the reserve is used.
        """
        parsed, line = self._current(), encode(record)
        sync = record.step not in ("done", "verified")
        try:
            try:
                self._state.append(NAME, line, sync=sync)
            except WriteFailed as error:
                if not (error.is_full and self.give_room(len(line))):
                    raise
                self._state.append(NAME, line, sync=sync)
        except WriteFailed as error:
            raise JournalError(f"the journal cannot be written: {error}") from None
        # A new object each time: who holds the old one sees that the journal has moved.
        parsed.applied = dict(parsed.applied)
        fold_one(record, parsed.applied, parsed.earlier)
        records = (*parsed.decoded.records, record)
        parsed.decoded = Decoded(
            records=records, foreign=parsed.decoded.foreign, sound=parsed.decoded.sound + len(line)
        )
        parsed.stamp = self._state.stamp(NAME)

    def keep_room(self, plan: Iterable[Record] = ()) -> None:
        """Bring the reserve to what a plan's records and the undo of everything need. Raises JournalError.

        `plan` are the intentions of a plan about to be made. Called before its first write, so that a disk that is too
        full is found while nothing is changed.
        """
        planned = list(plan)
        size = sum(undo_bytes(one) for one in self.applied().values())
        for record in planned:
            line = len(encode(record))
            size += line * (1 + STEPS) + (line + REASON_BYTES) * max(len(record.subjects), 1)
        try:
            self._state.reserve(RESERVE, size + RESERVE_BASE_BYTES if size else 0)
        except WriteFailed as error:
            if not planned:
                # Room that is to be given back can wait.
                return
            raise JournalError(
                f"there is no room for the journal of this plan ({size + RESERVE_BASE_BYTES} bytes in "
                f"{self._state.path('')}), so nothing was begun: {error}"
            ) from None

    def give_room(self, needed: int) -> bool:
        """Give disk space back from the reserve. False where none is left."""
        stamp = self._state.stamp(RESERVE)
        if stamp is None:
            return False
        # Whole blocks, and more than one: the file system may need some for itself.
        left = stamp[1] - max(needed, 16 * 1024)
        with contextlib.suppress(WriteFailed):
            self._state.reserve(RESERVE, left)
        return True

    def open_for_writing(self) -> None:
        """Cut off a torn last line, remove what a death left. Call with the host's lock held."""
        try:
            self._state.sweep(NAME)
            found = self._current()
            if found.stamp is not None and found.stamp[1] != found.decoded.sound:
                self._state.replace(NAME, self._data()[: found.decoded.sound])
                self._parsed = None
        except WriteFailed as error:
            raise JournalError(f"the journal cannot be written, so nothing was begun: {error}") from None

    def shrink(self, limit_bytes: int = COMPACT_BYTES) -> None:
        """Compact a long file. Only after recovery: an open intention must keep what it came from."""
        stamp = self._state.stamp(NAME)
        if stamp is None or stamp[1] <= limit_bytes:
            return
        found = self._current().decoded
        lines = [one.line + b"\n" for one in found.foreign] + [encode(one) for one in compact(found.records)]
        # A file that cannot be compacted now stays long: the next append finds out whether there is room.
        with contextlib.suppress(WriteFailed):
            self._state.replace(NAME, b"".join(lines))
            self._parsed = None

    def _current(self) -> _Parsed:
        stamp = self._state.stamp(NAME)
        if self._parsed is None or self._parsed.stamp != stamp:
            parsed = _Parsed(stamp, decode(self._data()))
            for record in parsed.decoded.records:
                fold_one(record, parsed.applied, parsed.earlier)
            self._parsed = parsed
        return self._parsed

    def _data(self) -> bytes:
        try:
            return self._state.read_bytes(NAME)
        except PathMissing:
            return b""
        except StateFolderUnsafe as error:
            raise JournalError(str(error)) from None
        except ReadFailed as error:
            raise JournalError(f"the journal cannot be read: {error}; it is for root alone") from None


def undo_bytes(setting: AppliedSetting) -> int:
    """Bytes that the record of this setting's undo takes at most."""
    return len(encode(setting.record("undone"))) + REASON_BYTES
