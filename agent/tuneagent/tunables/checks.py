"""checks: settings of the whole stack that tuneagent reports but never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.checks import containers, cpu, environment, gpu_driver, memory, network, pci, processes, system
from tuneagent.checks.rows import CheckRow, comparison_of
from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Reading, Severity, Subject
from tuneagent.facts.one_pass import Facts
from tuneagent.tunables.base import Tunable

ROWS: dict[str, CheckRow] = {
    **cpu.ROWS,
    **memory.ROWS,
    **pci.ROWS,
    **network.ROWS,
    **system.ROWS,
    **gpu_driver.ROWS,
    **containers.ROWS,
    **environment.ROWS,
    **processes.ROWS,
}


def _default(kind: object) -> object:
    return () if kind == tuple[str, ...] else False if kind is bool else None


Spec = msgspec.defstruct(
    "Spec",
    [(name, row.kind, _default(row.kind)) for name, row in sorted(ROWS.items())],
    frozen=True,
    forbid_unknown_fields=True,
)


def _row(subject: Subject) -> CheckRow:
    return ROWS[subject.removeprefix("check:")]


class Checks(Tunable[msgspec.Struct, object]):
    """Report-only rows. What a profile does not name is not checked."""

    name = "checks"
    group = "health"
    spec_type = Spec
    merges = True
    prefix = "check:"
    is_known_by_row = True
    rows = tuple(ROWS)
    about = About(Severity.MEDIUM, "settings that tuneagent reports but never changes")
    report_only = True

    def subjects(self, facts: Facts, spec: msgspec.Struct) -> Sequence[Subject]:
        """Rows for which the spec wants a value."""
        return [f"check:{name}" for name, row in ROWS.items() if row.wanted(getattr(spec, name)) not in (None, [])
                or (row.kind is bool and getattr(spec, name))]  # fmt: skip

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One row."""
        row = _row(subject)
        return Reading(row.observe(facts), evidence=row.evidence)

    def desire(
        self, facts: Facts, spec: msgspec.Struct, readings: Mapping[Subject, Reading]
    ) -> Mapping[Subject, object]:
        """What the spec wants of each row."""
        return {subject: _row(subject).wanted(getattr(spec, subject.removeprefix(self.prefix))) for subject in readings}

    def matches(self, subject: Subject, observed: object, desired: object) -> bool:
        """The row's own comparison."""
        return _row(subject).right(observed, desired)

    def comparison(self, subject: Subject, desired: object) -> Comparison:
        """The row's own."""
        return comparison_of(_row(subject).right)

    def describe(self, subject: Subject) -> About:
        """The row's own."""
        return _row(subject).about


TUNABLE = Checks()
