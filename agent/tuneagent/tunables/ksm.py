"""ksm: merging of equal pages across processes (Documentation/admin-guide/mm/ksm.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import About, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

PATH = "sys/kernel/mm/ksm/run"


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the kernel looks for equal pages."""

    run: bool


class Ksm(Tunable[Spec, int]):
    """Kernel samepage merging. Off stops the search; pages merged already stay merged."""

    name = "ksm"
    group = "memory"
    spec_type = Spec
    value_type = int
    prefix = "ksm:"
    subject_pattern = r"ksm:run"
    about = About(
        Severity.MEDIUM,
        "the search costs CPU time, and a merged page is on one NUMA node for all processes that share it",
        ("https://docs.kernel.org/admin-guide/mm/ksm.html",),
    )
    drop_in = TmpfilesD()

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The one switch."""
        return ["ksm:run"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value and the tmpfiles.d line of the next boot; the kernel starts with 0."""
        seen = facts.host.observe(PATH)
        if isinstance(seen, Value):
            known = seen.value in ("0", "1", "2")
            seen = Value(int(str(seen.value))) if known else Unreadable(f"/{PATH}: {seen.value!r} is not 0, 1 or 2")
        return reading(facts, PATH, seen, int, default=Value(0))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, int]:
        """1 or 0."""
        return {"ksm:run": int(spec.run)}

    def matches(self, subject: Subject, observed: int, desired: int) -> bool:
        """Equal; 2 also means off, with merged pages split again."""
        return bool(observed == desired) or (observed == 2 and desired == 0)

    def write(self, facts: Facts, subject: Subject, value: int) -> None:
        """Write the switch."""
        facts.host.files.write(PATH, f"{value}\n")

    def entries(self, subject: Subject, value: int) -> Entries:
        """One `w` line."""
        return {PATH: str(value)}


TUNABLE = Ksm()
