"""The journal's records: what was, what was written, how far it got."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.contracts.values import Lifetime, Setting, Subject

Step = Literal["intended", "done", "verified", "reverted", "left", "undone"]


class SubjectRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One subject of a record.

    `raw` is the text that `prior` had, where writing `prior` would spell it differently. The lines of our own drop-in
    that belong to the subject stand by key, None for one that is not there.
    """

    subject: Annotated[Subject, Meta(description="The setting within its tunable.")]
    prior: Annotated[Setting, Meta(description="The value before.")] = None
    raw: Annotated[
        str | msgspec.UnsetType,
        Meta(description="The text that `prior` had, where writing `prior` would spell it differently."),
    ] = msgspec.UNSET
    wrote: Annotated[Setting, Meta(description="The value written.")] = None
    live: Annotated[bool, Meta(description="Whether the running value was written, and not the next boot alone.")] = (
        True
    )
    drop_in_prior: Annotated[
        dict[str, str | None],
        Meta(description="Lines of tuneagent's own file before, by key; null for a line that was not there."),
    ] = {}
    drop_in_wrote: Annotated[dict[str, str | None], Meta(description="The same lines after.")] = {}


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line. All steps but `intended` only name the subjects they are about.

    `reverted` takes back the last intention alone, `undone` all that we ever wrote to the subject. `left` says what was
    there after a write failed and going back failed too: `wrote` is what was read then. `time`: seconds since 1970.
    """

    step: Annotated[
        Step,
        Meta(
            description="`intended`, `done` or `verified`; `reverted` takes back the last intention, `undone` all that "
            "was ever written; `left`: a write and going back both failed."
        ),
    ]
    time: Annotated[float, Meta(description="Seconds since 1970.")]
    plan: Annotated[str, Meta(description="Digest of the plan.")]
    tunable: Annotated[str, Meta(description="The tunable.")]
    lifetime: Annotated[Lifetime, Meta(description="What ends the running value.")]
    boot_id: Annotated[str, Meta(description="Identifier of the boot.")] = msgspec.field(name="bootID")
    kernel: Annotated[str, Meta(description="Release of the kernel.")] = ""
    driver: Annotated[str, Meta(description="Version of the NVIDIA driver.")] = ""
    profile: Annotated[str, Meta(description="Name of the profile.")] = ""
    revision: Annotated[str, Meta(description="Revision of the profile.")] = ""
    reason: Annotated[str, Meta(description="Why, where a step has a reason.")] = ""
    subjects: Annotated[tuple[SubjectRecord, ...], Meta(description="The settings of this step.")] = ()


class JournalDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What `journal -o json` prints."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = "tuneagent.dev/journal/v1"
    records: Annotated[tuple[Record, ...], Meta(description="One for each line of the journal.")]
