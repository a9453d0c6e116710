"""cpuEnergyBias: each Intel CPU's hint, performance to power saving (Documentation/admin-guide/pm/intel_epb.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from tuneagent.contracts.values import About, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

BASE = "sys/devices/system/cpu"
LARGEST = 15


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From 0 (performance) to 15 (power saving)."""

    bias: Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


def _path(subject: Subject) -> str:
    return f"{BASE}/cpu{subject.removeprefix('cpu:')}/power/energy_perf_bias"


class CpuEnergyBias(Tunable[Spec, int]):
    """Energy and performance bias of each CPU."""

    name = "cpuEnergyBias"
    group = "cpu"
    spec_type = Spec
    value_type = int
    subject_pattern = r"cpu:[0-9]+"
    about = About(
        Severity.LOW,
        "firmware that starts CPUs with a bias towards power saving lowers clocks in short bursts of work",
        ("https://docs.kernel.org/admin-guide/pm/intel_epb.html",),
    )
    drop_in = TmpfilesD()

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """Every online CPU; `host` where they are not known."""
        return [f"cpu:{cpu}" for cpu in sorted(facts.topology.online)] or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value and the tmpfiles.d line of the next boot. Virtual machines have none."""
        if subject == "host":
            return Reading(Unreadable("the CPUs of this host are not known"), evidence=f"/{BASE}")
        path = _path(subject)
        live = facts.host.observe(path)
        if isinstance(live, Value):
            number = int(str(live.value)) if str(live.value).isdigit() else LARGEST + 1
            live = Value(number) if number <= LARGEST else Unreadable(f"/{path}: {live.value!r} is not 0 to {LARGEST}")
        return reading(facts, path, live, int)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, int]:
        """The same for every CPU."""
        return {subject: spec.bias for subject in readings if subject != "host"}

    def write(self, facts: Facts, subject: Subject, value: int) -> None:
        """Write the running value."""
        facts.host.files.write(_path(subject), f"{value}\n")

    def entries(self, subject: Subject, value: int) -> Entries:
        """One `w` line."""
        return {_path(subject): str(value)}


TUNABLE = CpuEnergyBias()
