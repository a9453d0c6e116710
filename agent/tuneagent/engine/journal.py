"""Write-ahead record of changes: what was, what we wrote, how far we got. JSON lines, each with a checksum.

One record and one flush to disk for each tunable, before its writes. Reading the file back gives, for every
setting that we hold, the value before our first write since the last undo.
"""

from __future__ import annotations

import contextlib

from tuneagent.contracts.journal import Record
from tuneagent.engine.applied_settings import AppliedSetting, Key, compact, fold
from tuneagent.engine.journal_lines import NotUnderstood, decode, encode
from tuneagent.errors import JournalError, PathMissing, ReadFailed, WriteFailed
from tuneagent.host.files import Files

COMPACT_BYTES = 1024 * 1024
NAME = "journal.jsonl"


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

    def held(self) -> dict[Key, AppliedSetting]:
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
