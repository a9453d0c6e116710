"""What a way to boot is: a file in `boot_loaders/` defines one and names it LOADER."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from tuneagent.errors import WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import DropIn


class BootLoader(DropIn, Protocol):
    """One way to boot. Of those that are there the one of the lowest rank is this host's."""

    @property
    def rank(self) -> int:
        """Place in the order in which signs are looked for."""

    def is_there(self, facts: Facts) -> bool:
        """Whether this host boots so."""

    def next_line(self, facts: Facts) -> str:
        """Arguments that the next boot gets. Raises PathMissing or ReadFailed."""

    def unsafe(self, facts: Facts, name: str) -> str | None:
        """Why this one argument is not changed, although others could be; None where it can be."""

    def by_hand(self, words: str) -> str | None:
        """What a person has to do for these words; None where nothing is known."""


class ReadOnlyLoader:
    """What ways to boot have in common whose files tuneagent reads and people change."""

    path: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    generates = False

    def unsafe(self, facts: Facts, name: str) -> str | None:
        """`impossible` speaks for every argument."""
        del facts, name
        return None

    def entries(self, facts: Facts) -> dict[str, str]:
        """None."""
        del facts
        return {}

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """Nothing is ours."""
        del facts
        return not entries

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Never done."""
        del facts, entries
        raise WriteFailed(f"/{self.path}: not written by tuneagent")
