"""The journal's records: what was, what was written, how far it got."""

from __future__ import annotations

from typing import Literal

import msgspec

from tuneagent.contracts.values import Lifetime, Setting, Subject

Step = Literal["intended", "done", "verified", "reverted", "left", "undone"]


class SubjectRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One subject of a record.

    `raw` is the text that `prior` had, where writing `prior` would spell it otherwise. The lines of our own drop-in
    that belong to the subject stand by key, None for one that is not there.
    """

    subject: Subject
    prior: Setting = None
    raw: str | msgspec.UnsetType = msgspec.UNSET
    wrote: Setting = None
    live: bool = True
    drop_in_prior: dict[str, str | None] = {}
    drop_in_wrote: dict[str, str | None] = {}


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line. All steps but `intended` only name the subjects they are about.

    `reverted` takes back the last intention alone, `undone` all that we ever wrote to the subject. `left` says what was
    there after a write failed and going back failed too: `wrote` is what was read then. `time`: seconds since 1970.
    """

    step: Step
    time: float
    plan: str
    tunable: str
    lifetime: Lifetime
    boot_id: str = msgspec.field(name="bootID")
    kernel: str = ""
    driver: str = ""
    profile: str = ""
    revision: str = ""
    reason: str = ""
    subjects: tuple[SubjectRecord, ...] = ()


class JournalDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `journal -o json` prints."""

    schema: str = "tuneagent.dev/journal/v1"
    records: tuple[Record, ...]
