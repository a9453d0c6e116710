"""What tuneagent holds on a host: the document that `status` prints."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_STATUS = "tuneagent.dev/status/v1"
Experiment = Literal["running", "interrupted"]


class ProfileInForce(msgspec.Struct, frozen=True, kw_only=True):
    """A profile whose settings are held. `since` is its first write, `last` the newest, in seconds since 1970."""

    name: Annotated[str, Meta(description="Name of the profile.")]
    revision: Annotated[str, Meta(description="Its revision.")]
    settings: Annotated[int, Meta(description="How many settings are held for it.")]
    since: Annotated[float, Meta(description="Time of its first write, in seconds since 1970.")]
    last: Annotated[float, Meta(description="Time of its newest write, in seconds since 1970.")]


class HostStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of tuneagent on a host. Lists hold the names of settings."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_STATUS
    profiles: Annotated[tuple[ProfileInForce, ...], Meta(description="Profiles in force.")] = ()
    waits_for_reboot: Annotated[
        tuple[str, ...], Meta(description="Set for the next boot, and something else now.")
    ] = ()
    unsettled: Annotated[
        tuple[str, ...],
        Meta(description="A crash left open whether they were written; the next apply or undo settles them."),
    ] = ()
    not_understood: Annotated[int, Meta(description="Lines of the journal that this version does not understand.")] = 0
    confirm_by: Annotated[
        float | None,
        Meta(description="When an apply is undone automatically unless it is confirmed, in seconds since 1970."),
    ] = None
    awaits_confirmation: Annotated[tuple[str, ...], Meta(description="Settings that are undone then.")] = ()
    daemon: Annotated[bool, Meta(description="Whether the daemon runs.")] = False
    experiment: Annotated[
        Experiment | None,
        Meta(description="An experiment that switches settings now, or one that was killed and left them; else null."),
    ] = None
    governed_by: Annotated[str | None, Meta(description="Node whose agent governs this host.")] = None
    held: Annotated[bool, Meta(description="Whether a file on the host stops every write.")] = False
