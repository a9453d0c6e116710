"""The last revision that a cluster node has taken, kept on disk for when the API server is unreachable."""

from __future__ import annotations

import msgspec

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host.state_folder import StateFolder
from tuneagent.node.log import log
from tuneagent.profile_files.document import Profile

NAME = "revision.json"


class _Kept(msgspec.Struct, frozen=True):
    revision: str
    profile: Profile


class LastGood:
    """One file of the state folder."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def keep(self, profile: Profile, revision: str) -> None:
        """Follow this one from now on. Raises WriteFailed."""
        self._state.replace(NAME, msgspec.json.encode(_Kept(revision, profile)))

    def forget(self) -> None:
        """Follow none."""
        self._state.remove(NAME)

    def read(self) -> tuple[Profile | None, str]:
        """The profile and its revision; None where nothing is kept, or what is kept makes no sense."""
        try:
            kept = msgspec.json.decode(self._state.read_bytes(NAME), type=_Kept)
        except PathMissing:
            return None, ""
        except (ReadFailed, msgspec.MsgspecError) as error:
            log.error("kept revision not read", extra={"fields": {"error": str(error)}})
            return None, ""
        return kept.profile, kept.revision
