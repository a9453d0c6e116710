"""What became of each change: the documents that `apply` and `undo` print."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.report import Report
from tuneagent.contracts.values import Setting, Subject


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change: `verified`, `failed`, `withheld`, `skipped` or `ended`.

    `skipped` was not begun; `ended` needed no write, since what had been changed is not there any more.
    """

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[Subject, Meta(description="The setting within its tunable.")]
    result: Annotated[
        str,
        Meta(
            description="`verified`, `failed`, `withheld`, `skipped` (not begun) or `ended` (what had been changed is "
            "not there any more)."
        ),
    ]
    reason: Annotated[str, Meta(description="Why it did not succeed.")] = ""


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one setting: `undone`, `gone`, `ended`, `conflict` or `failed`."""

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[Subject, Meta(description="The setting within its tunable.")]
    result: Annotated[str, Meta(description="`undone`, `gone`, `ended`, `conflict` or `failed`.")]
    value: Annotated[Setting, Meta(description="The value that it has now.")] = None
    reason: Annotated[str, Meta(description="Why it was not undone.")] = ""

    @property
    def is_settled(self) -> bool:
        """True where nothing is left to go back to."""
        return self.result in ("undone", "gone", "ended")


class UndoneDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `undo -o json` prints."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = "tuneagent.dev/undone/v1"
    results: Annotated[tuple[Undone, ...], Meta(description="One for each setting.")]


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply -o json` prints: the plan's digest, what became of each change, and the audit after it."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = "tuneagent.dev/applied/v1"
    digest: Annotated[str, Meta(description="Digest of the plan that was applied.")]
    results: Annotated[tuple[Outcome, ...], Meta(description="One for each change.")]
    recovered: Annotated[
        tuple[Undone, ...], Meta(description="What an earlier run that died had left open, and what became of it.")
    ] = ()
    report: Annotated[Report, Meta(description="The audit after the apply.")]
