"""What tuneagent holds on a host: the document that `status` prints."""

from __future__ import annotations

import msgspec

SCHEMA_STATUS = "tuneagent.dev/status/v1"


class ProfileInForce(msgspec.Struct, frozen=True, kw_only=True):
    """A profile whose settings are held. `since` is its first write, `last` the newest, in seconds since 1970."""

    name: str
    revision: str
    settings: int
    since: float
    last: float


class HostStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of tuneagent on a host. Lists hold the names of settings."""

    schema: str = SCHEMA_STATUS
    profiles: tuple[ProfileInForce, ...] = ()
    # Set for the next boot, and something else now.
    waits_for_reboot: tuple[str, ...] = ()
    # A crash left open whether they were written: the next apply or undo settles them.
    unsettled: tuple[str, ...] = ()
    # Lines of the journal that this version does not understand.
    not_understood: int = 0
    # When an apply is undone automatically unless it is confirmed, in seconds since 1970, and which settings go back.
    confirm_by: float | None = None
    awaits_confirmation: tuple[str, ...] = ()
    daemon: bool = False
    # Node whose agent governs this host.
    governed_by: str | None = None
    # Whether a file on the host stops every write.
    held: bool = False
