"""What a tunable is: how one setting, or a table of like settings, is listed, read, wanted and written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tuneagent.gpu import GpuFacts, read_gpus
from tuneagent.host import Host
from tuneagent.model import About, Disruption, Lifetime, Reading, Setting, Subject
from tuneagent.topology import Topology
from tuneagent.topology_read import read_topology

S = TypeVar("S")
T = TypeVar("T")
# Own entries of a drop-in file: key to text, None for "no such entry".
Entries = Mapping[str, "str | None"]


class Facts:
    """What one pass knows of the host. Topology and GPUs are read at most once, and only if asked for."""

    def __init__(self, host: Host) -> None:
        self.host = host
        # Typed specs of the profile under way: what one setting is may follow from another, as masks from the CPU plan.
        self.specs: Mapping[str, Any] = {}
        self._once: dict[str, Any] = {}

    def once(self, name: str, read: Callable[[], T]) -> T:
        """What `read` gives, read at most once in this pass however many subjects need it. Failures are not kept."""
        if name not in self._once:
            self._once[name] = read()
        found: T = self._once[name]
        return found

    @functools.cached_property
    def topology(self) -> Topology:
        """CPUs, NUMA nodes and PCI devices."""
        return read_topology(self.host)

    @functools.cached_property
    def gpus(self) -> GpuFacts:
        """GPUs by NVML."""
        return read_gpus(self.host)

    @functools.cached_property
    def boot_id(self) -> str:
        """Identity of this boot; empty where unknown."""
        return self.host.files.read_or("proc/sys/kernel/random/boot_id", "")


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

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace our file, or remove it where there are no entries. Raises WriteFailed."""


class Tunable(Generic[S]):
    """One file in `tunables/` defines one of these and names it TUNABLE.

    `name` is the key in a profile; `spec_type` its type there. Undo writes the journalled value.
    """

    name: ClassVar[str]
    group: ClassVar[str]
    spec_type: ClassVar[Any]
    about: ClassVar[About]
    disruption: ClassVar[Disruption] = Disruption.LIVE
    lifetime: ClassVar[Lifetime] = Lifetime.BOOT
    # Names of tunables that are written before this one.
    after: ClassVar[tuple[str, ...]] = ()
    # One subject that fails takes the others of the same plan back.
    all_or_nothing: ClassVar[bool] = False
    report_only: ClassVar[bool] = False
    # False where only the next boot can change: the running value is read but never written.
    live_writable: ClassVar[bool] = True
    drop_in: ClassVar[DropIn | None] = None

    def check(self, spec: S) -> list[str]:
        """Faults of a spec beyond its types."""
        del spec
        return []

    def subjects(self, facts: Facts, spec: S) -> Sequence[Subject]:
        """What the spec is about on this host."""
        raise NotImplementedError

    def not_here(self, facts: Facts, spec: S) -> list[str]:
        """Faults of a spec on this very host: names of hardware that it does not have, with what it has."""
        del facts, spec
        return []

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One subject as found. Never raises for a host that lacks it or refuses the read."""
        raise NotImplementedError

    def desire(self, facts: Facts, spec: S, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Setting]:
        """Wanted value of each subject that should have one."""
        raise NotImplementedError

    def matches(self, observed: Setting, desired: Setting) -> bool:
        """Whether a value found satisfies the one wanted."""
        return bool(observed == desired)

    def value_for(self, subject: Subject, desired: Setting, found: Sequence[Setting]) -> Setting:
        """The value to write for what is wanted, seeing `found`: what is there now, at the next boot, and without us.

        Where `desired` is a limit, what satisfies it already stands: a lower limit never lowers. None in `found`
        stands for what is not known or not set.
        """
        del subject, found
        return desired

    def lowers(self, own: Setting, other: Setting, desired: Setting) -> bool:
        """Whether our own line, although it satisfies `desired`, takes away at boot what the host or others give."""
        del own, other, desired
        return False

    def written(self, desired: Setting) -> Setting:
        """The very value that a write makes effective, where `desired` is a condition; undo compares with it."""
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: Setting) -> str | None:
        """Why this change cannot be made now, found before anything is written; None if it can."""
        del facts, subject, desired
        return None

    def busy(self, facts: Facts, subject: Subject, desired: Setting) -> str | None:
        """Who uses what this change would take away; None where nobody does. Draining the node mends it."""
        del facts, subject, desired
        return None

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """Why what is wanted can only be right after another change or a reboot; None where it can be now."""
        del facts, subject
        return None

    def write(self, facts: Facts, subject: Subject, value: Setting) -> None:
        """Make `value` effective now. Raises WriteFailed."""
        raise NotImplementedError

    def one_way(self, subject: Subject) -> str | None:
        """Why a change of this subject is made once and not taken back; None for all that can be."""
        del subject
        return None

    def entries(self, subject: Subject, value: Setting) -> Entries:
        """Drop-in entries that make `value` effective at the next boot."""
        del subject, value
        return {}

    def describe(self, subject: Subject) -> About:
        """Severity, reason and sources of one subject."""
        del subject
        return self.about

    def culprit(self, facts: Facts, subject: Subject, found: Setting) -> str | None:
        """Who may have set the value found, by what the host's files say; None where they say nothing."""
        del facts, subject, found
        return None

    def explain(self, subject: Subject, desired: Setting) -> str:
        """Advice for a finding."""
        del desired
        return self.describe(subject).advice
