"""A file of the host's own mechanism that tuneagent owns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tuneagent.facts.one_pass import Facts

# Own entries of a drop-in file: key to text, None for "no such entry".
Entries = Mapping[str, "str | None"]


class DropIn(Protocol):
    """A file of the host's own mechanism that tuneagent owns and replaces whole."""

    @property
    def path(self) -> str:
        """The file, relative to the host's root."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it may write: `path`, or several where the mechanism needs them."""

    @property
    def generates(self) -> bool:
        """True where a program makes something else of the file, such as grub.cfg."""

    def impossible(self, facts: Facts) -> str | None:
        """Why nothing written there would survive a reboot; None if it would."""

    def entries(self, facts: Facts) -> dict[str, str]:
        """Entries of our own file; empty where there is none. Raises ReadFailed."""

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """Whether every file of ours holds exactly these entries, as `replace` would leave it. Raises ReadFailed."""

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace our file, or remove it where there are no entries. Raises WriteFailed."""
