"""The journal's records: what was, what was written, how far it got."""

from __future__ import annotations

from typing import Literal

import msgspec

from tuneagent.contracts.values import Lifetime, Setting, Subject

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
