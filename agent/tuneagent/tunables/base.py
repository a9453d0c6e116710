"""What a tunable is: how one setting, or a table of like settings, is listed, read, wanted and written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Disruption, Lifetime, Reading, Setting, Subject
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import DropIn, Entries

S = TypeVar("S")
V = TypeVar("V")


class Tunable(Generic[S, V]):
    """One file in `tunables/` defines one of these and names it TUNABLE.

    S is the type of its spec, V that of its values. `name` is the key in a profile, `spec_type` its type there. Undo
    writes the journalled value.
    """

    name: ClassVar[str]
    group: ClassVar[str]
    spec_type: ClassVar[object]
    # The JSON type of a setting's value in a report; not given for a table whose rows have their own types.
    value_type: ClassVar[object] = object
    about: ClassVar[About]
    disruption: ClassVar[Disruption] = Disruption.LIVE
    lifetime: ClassVar[Lifetime] = Lifetime.BOOT
    # Names of tunables that are written before this one.
    after: ClassVar[tuple[str, ...]] = ()
    # If one subject fails, the others in the same plan are reverted.
    all_or_nothing: ClassVar[bool] = False
    report_only: ClassVar[bool] = False
    # False where only the next boot can change: the running value is read but never written.
    live_writable: ClassVar[bool] = True
    drop_in: ClassVar[DropIn | None] = None
    # A spec is a map of independent names: a profile that extends another adds names to it, others replace it whole.
    merges: ClassVar[bool] = False
    # How a subject starts, before the name that a person uses: `key:` of `key:vm.swappiness`.
    prefix: ClassVar[str] = ""
    # Whether that name is clear without the tunable's: `vm.swappiness` is, `zram0` needs it: `swap/zram0`.
    is_known_by_row: ClassVar[bool] = False
    # Full pattern of the subjects that a profile can name; undo writes no others.
    subject_pattern: ClassVar[str] = r"(?!)"
    # Names of the rows, where the tunable is a table of them.
    rows: ClassVar[tuple[str, ...]] = ()

    def check(self, spec: S) -> list[str]:
        """Faults in a spec that its types do not catch."""
        del spec
        return []

    def subjects(self, facts: Facts, spec: S) -> Sequence[Subject]:
        """What the spec is about on this host."""
        raise NotImplementedError

    def not_here(self, facts: Facts, spec: S) -> list[str]:
        """Faults in a spec on this host: names of hardware that the host does not have, with what it has."""
        del facts, spec
        return []

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One subject as found. Never raises for a host that lacks it or refuses the read."""
        raise NotImplementedError

    def desire(self, facts: Facts, spec: S, readings: Mapping[Subject, Reading]) -> Mapping[Subject, V]:
        """Wanted value of each subject that should have one."""
        raise NotImplementedError

    def matches(self, subject: Subject, observed: V, desired: V) -> bool:
        """Whether a value found satisfies the one wanted."""
        del subject
        return bool(observed == desired)

    def value_for(self, subject: Subject, desired: V, found: Sequence[V | None]) -> V:
        """The value to write, given `found`: the values now, at the next boot, and without us.

        Where `desired` is a limit, a value that satisfies it stays: a lower limit never lowers. None in `found`
        stands for what is not known or not set.
        """
        del subject, found
        return desired

    def lowers(self, own: V, other: V | None, desired: V) -> bool:
        """Whether our own line, although it satisfies `desired`, overrides at boot what the host or others set."""
        del own, other, desired
        return False

    def written(self, desired: V) -> V:
        """The exact value that a write makes effective, where `desired` is a condition; undo compares with it."""
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: V) -> str | None:
        """Why this change cannot be made now, found before anything is written; None if it can."""
        del facts, subject, desired
        return None

    def busy(self, facts: Facts, subject: Subject, desired: V) -> str | None:
        """Who uses what this change would take away; None where nobody does. Draining the node solves it."""
        del facts, subject, desired
        return None

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """Why the wanted value is only possible after another change or a reboot; None where it is possible now."""
        del facts, subject
        return None

    def write(self, facts: Facts, subject: Subject, value: V) -> None:
        """Make `value` effective now. Raises WriteFailed."""
        raise NotImplementedError

    def write_back(self, facts: Facts, subject: Subject, value: V, raw: str | msgspec.UnsetType) -> None:
        """Write a saved value. `raw` is the text that it had, where `write` would spell it differently.

        Raises WriteFailed.
        """
        del raw
        self.write(facts, subject, value)

    def could_name(self, subject: Subject) -> bool:
        """Whether a profile could name this subject on some host."""
        return re.fullmatch(self.subject_pattern, subject) is not None

    def one_way(self, subject: Subject) -> str | None:
        """Why a change to this subject is made once and cannot be undone; None where it can be."""
        del subject
        return None

    def entries(self, subject: Subject, value: V) -> Entries:
        """Drop-in entries that make `value` effective at the next boot."""
        del subject, value
        return {}

    def describe(self, subject: Subject) -> About:
        """Severity, reason and sources of one subject."""
        del subject
        return self.about

    def shown(self, subject: Subject, desired: V) -> Setting:
        """The wanted value as a report shows it to people and programs: of the same type as the value found."""
        del subject
        return desired

    def comparison(self, subject: Subject, desired: V) -> Comparison:
        """How the value found must compare with what `shown` gives."""
        del subject, desired
        return "equal"

    def title(self, subject: Subject) -> str:
        """What people call one setting, in one word: every command that takes a setting accepts this name."""
        name = subject.removeprefix(self.prefix)
        return name if self.is_known_by_row else f"{self.name}/{name}"

    def culprit(self, facts: Facts, subject: Subject, found: V) -> str | None:
        """Who may have set the value found, according to the host's files; None where they do not say."""
        del facts, subject, found
        return None


# Any tunable: the engine takes specs and values from it and hands them back to it, without looking inside them.
AnyTunable = Tunable[Any, Any]
