"""cgroupSlices: CPUs that systemd's slices may use, at run time and at the next boot (systemd.resource-control(5))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneagent.contracts.values import (
    About,
    Absent,
    Disruption,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.systemd_d import OWN_NAME, SLICES, SliceDropIns, unit_cpus
from tuneagent.tunables.base import Tunable

BASE = "sys/fs/cgroup"
Spec = dict[str, str]


class CgroupSlices(Tunable[Spec, str]):
    """AllowedCPUs= of slices: keeps system daemons off the cores of jobs."""

    name = "cgroupSlices"
    group = "cpu"
    spec_type = Spec
    value_type = str
    merges = True
    prefix = "unit:"
    about = About(
        Severity.MEDIUM,
        "daemons that migrate across all cores delay the threads that feed GPUs",
        ("https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html",),
        "slices that the kubelet owns are never touched",
    )
    disruption = Disruption.LIVE
    after = ("smt",)
    drop_in = SliceDropIns()

    def check(self, spec: Spec) -> list[str]:
        """Slices that tuneagent does not manage, and invalid CPU lists."""
        faults = [f".{unit}: not one of {', '.join(SLICES)}" for unit in spec if unit not in SLICES]
        for unit, cpus in spec.items():
            if cpus not in ("{reserved}", "{isolated}"):
                try:
                    parse_cpulist(cpus)
                except ValueError as error:
                    faults.append(f".{unit}: {error}")
        return faults

    def could_name(self, subject: Subject) -> bool:
        """The slices that a profile may set."""
        name = subject.removeprefix(self.prefix)
        return subject != name and name in SLICES

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each unit."""
        return [f"unit:{unit}" for unit in sorted(spec)]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """CPUs of the cgroup, and those of the drop-in that wins at the next boot."""
        unit = subject.removeprefix("unit:")
        path = f"{BASE}/{unit}/cpuset.cpus"
        owner = None
        try:
            found = unit_cpus(facts, unit, "AllowedCPUs")
            persisted: Observation = Value(_normal(found[0]) if found else "")
            own = f"/etc/systemd/system/{unit}.d/{OWN_NAME}"
            if found and found[1] != own and found[1].rpartition("/")[2] > OWN_NAME:
                owner = found[1]
        except (ReadFailed, ValueError) as error:
            persisted = Unreadable(str(error))
        return Reading(
            self._live(facts, unit, path),
            evidence=f"/{path}",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
            owner=owner,
        )

    @staticmethod
    def _live(facts: Facts, unit: str, path: str) -> Observation:
        if not facts.host.files.exists(f"{BASE}/cgroup.controllers"):
            return facts.host.missing(f"{BASE}/cgroup.controllers")
        seen = facts.host.observe(path)
        if isinstance(seen, Absent) and facts.host.files.is_dir(f"{BASE}/{unit}"):
            # Without the cpuset controller nothing limits it yet.
            return Value("")
        if isinstance(seen, Absent):
            return Absent(f"{unit} has no cgroup now")
        if not isinstance(seen, Value):
            return seen
        try:
            return Value(_normal(str(seen.value)))
        except ValueError as error:
            return Unreadable(f"/{path}: {error}")

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The CPUs of the spec, or of the CPU plan."""
        desired: dict[Subject, str] = {}
        for unit, cpus in spec.items():
            filled = expand(facts, cpus)
            if filled is not None:
                desired[f"unit:{unit}"] = _normal(filled)
        return desired

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A CPU plan for another topology."""
        return waiting(facts) if "{" in str(facts.specs.get(self.name, {})) else None

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Have systemd set it, in /run only; the next boot reads the drop-in."""
        unit = subject.removeprefix("unit:")
        facts.order(["systemctl", "set-property", "--runtime", unit, f"AllowedCPUs={value}"])

    def entries(self, subject: Subject, value: str) -> Entries:
        """The unit's drop-in."""
        return {subject.removeprefix("unit:"): str(value) if value else None}


def _normal(cpus: str) -> str:
    return format_cpulist(parse_cpulist(cpus.replace(" ", ",")))


TUNABLE = CgroupSlices()
