"""What became of each change: the documents that `apply` and `undo` print."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import Report
from tuneagent.contracts.values import Setting, Subject


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change: `verified`, `failed`, `withheld`, `skipped` or `ended`.

    `skipped` was not begun; `ended` needed no write, since what had been changed is not there any more.
    """

    tunable: str
    subject: Subject
    result: str
    reason: str = ""


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


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply -o json` prints: the plan's digest, what became of each change, and the audit after it."""

    schema: str = "tuneagent.dev/applied/v1"
    digest: str
    results: tuple[Outcome, ...]
    recovered: tuple[Undone, ...] = ()
    report: Report
