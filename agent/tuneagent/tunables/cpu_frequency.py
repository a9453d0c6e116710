"""cpuFrequency: limits of each CPU's clock, the energy preference, and boost (admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.errors import ReadFailed
from tuneagent.model import About, Absent, Observation, Reading, Setting, Severity, Subject, Unreadable, Value
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading, winner
from tuneagent.tunable import Entries, Facts, Tunable

BASE = "sys/devices/system/cpu"
NO_TURBO, BOOST = f"{BASE}/intel_pstate/no_turbo", f"{BASE}/cpufreq/boost"
_PREFERENCES = ("default", "performance", "balance_performance", "balance_power", "power")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Limits in kHz, or `hardware` for the widest that the CPU has; preference and boost."""

    min: int | Literal["hardware", "max"] | None = None
    max: int | Literal["hardware"] | None = None
    energy_preference: Literal["default", "performance", "balance_performance", "balance_power", "power"] | None = None
    boost: bool | None = None


def _path(cpu: str, file: str) -> str:
    return f"{BASE}/cpu{cpu}/cpufreq/{file}"


class CpuFrequency(Tunable[Spec]):
    """Clock limits of each CPU. Lower and upper limit are one setting: the order of writing depends on both."""

    name = "cpuFrequency"
    group = "cpu"
    spec_type = Spec
    about = About(
        Severity.MEDIUM,
        "a clock that is held down, or that must first ramp up, delays the thread that feeds the GPU",
        (
            "https://docs.kernel.org/admin-guide/pm/cpufreq.html",
            "https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
        ),
    )
    drop_in = TmpfilesD()
    # With the performance governor a self-choosing driver refuses another preference.
    after = ("cpuGovernor", "smt")

    def check(self, spec: Spec) -> list[str]:
        """Frequencies that no CPU has."""
        faults = []
        for name, value in (("min", spec.min), ("max", spec.max)):
            if isinstance(value, int) and not 100_000 <= value <= 10_000_000:
                faults.append(f".{name}: {value} kHz is not between 100000 and 10000000")
        if isinstance(spec.min, int) and isinstance(spec.max, int) and spec.min > spec.max:
            faults.append(".min: above max")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """Limits and preference of each CPU, and boost; `host` where no CPU has a frequency."""
        cpus = [cpu for cpu in sorted(facts.topology.online) if facts.host.files.exists(f"{BASE}/cpu{cpu}/cpufreq")]
        found: list[Subject] = []
        if spec.min is not None or spec.max is not None:
            found += [f"cpu:{cpu}/limits" for cpu in cpus]
        if spec.energy_preference is not None:
            found += [f"cpu:{cpu}/preference" for cpu in cpus]
        if not cpus:
            return ["host"]
        return [*found, "cpu:boost"] if spec.boost is not None else found

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One of them, now and at the next boot."""
        if subject == "host":
            if not facts.topology.online:
                return Reading(Unreadable("the CPUs of this host are not known"), evidence=f"/{BASE}")
            return Reading(Absent("no CPU has cpufreq here, as is usual in a virtual machine"), evidence=f"/{BASE}")
        if subject == "cpu:boost":
            return _boost(facts)
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part == "limits":
            return _limits(facts, cpu)
        path = _path(cpu, "energy_performance_preference")
        live: Observation = facts.host.observe(path)
        if isinstance(live, Value) and live.value not in _PREFERENCES and not str(live.value).isdigit():
            live = Unreadable(f"/{path}: {str(live.value)[:40]!r} is no preference")
        return reading(facts, path, live)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Setting]:
        """Limits within what the hardware has; what the spec leaves out stays as found."""
        desired: dict[Subject, Setting] = {}
        for subject, found in readings.items():
            if subject == "cpu:boost":
                desired[subject] = spec.boost
            elif subject.endswith("/preference"):
                desired[subject] = spec.energy_preference
            elif subject.endswith("/limits") and isinstance(found.live, Value):
                cpu = subject.removeprefix("cpu:").partition("/")[0]
                low = _number(facts, _path(cpu, "cpuinfo_min_freq"))
                high = _number(facts, _path(cpu, "cpuinfo_max_freq"))
                wanted = dict(found.live.value)
                for name, value in (("min", spec.min), ("max", spec.max)):
                    bound = {"hardware": low if name == "min" else high, "max": high}
                    chosen = bound.get(value) if isinstance(value, str) else value
                    if value is not None and chosen is None:
                        break
                    wanted[name] = wanted[name] if chosen is None else chosen
                else:
                    desired[subject] = wanted
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: Setting) -> str | None:
        """A frequency that the CPU has not."""
        if not subject.endswith("/limits"):
            return None
        cpu = subject.removeprefix("cpu:").partition("/")[0]
        low, high = (_number(facts, _path(cpu, f"cpuinfo_{end}_freq")) for end in ("min", "max"))
        if low is not None and high is not None and not low <= desired["min"] <= desired["max"] <= high:
            return f"{desired['min']} to {desired['max']} kHz is not within {low} to {high} kHz"
        return None

    def write(self, facts: Facts, subject: Subject, value: Setting) -> None:
        """Write it; of two limits first the one that keeps the lower below the upper."""
        files = facts.host.files
        if subject == "cpu:boost":
            path, inverse = _boost_file(facts)
            files.write(path, f"{int(value != inverse)}\n")
            return
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part == "preference":
            files.write(_path(cpu, "energy_performance_preference"), f"{value}\n")
            return
        now = _number(facts, _path(cpu, "scaling_max_freq"))
        order = (
            ("max", "min") if now is None or (value["min"] <= value["max"] and value["max"] >= now) else ("min", "max")
        )
        for name in order:
            files.write(_path(cpu, f"scaling_{name}_freq"), f"{value[name]}\n")

    def entries(self, subject: Subject, value: Setting) -> Entries:
        """`w` lines; `max` sorts before `min`, and at boot the limits are the widest, so that order is right."""
        if subject == "cpu:boost":
            return {NO_TURBO: str(int(not value)), BOOST: str(int(value))}
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part == "preference":
            return {_path(cpu, "energy_performance_preference"): str(value)}
        return {_path(cpu, f"scaling_{name}_freq"): str(value[name]) for name in ("max", "min")}


def _number(facts: Facts, path: str) -> int | None:
    try:
        text = facts.host.files.read_or(path, "")
    except ReadFailed:
        return None
    return int(text) if text.isdigit() else None


def _boost_file(facts: Facts) -> tuple[str, bool]:
    """The switch, and whether it means the opposite."""
    return (NO_TURBO, True) if facts.host.files.is_dir(f"{BASE}/intel_pstate") else (BOOST, False)


def _boost(facts: Facts) -> Reading:
    path, inverse = _boost_file(facts)
    live: Observation = facts.host.observe(path)
    if isinstance(live, Value):
        known = live.value in ("0", "1")
        live = Value((live.value == "1") != inverse) if known else Unreadable(f"/{path}: {live.value!r} is no switch")
    return reading(facts, path, live, lambda text: (text == "1") != inverse, default=Value(True))


def _limits(facts: Facts, cpu: str) -> Reading:
    paths = {name: _path(cpu, f"scaling_{name}_freq") for name in ("min", "max")}
    values: dict[str, int] = {}
    live: Observation | None = None
    for name, path in paths.items():
        seen = facts.host.observe(path)
        if not isinstance(seen, Value):
            live = seen
        elif not str(seen.value).isdigit():
            live = Unreadable(f"/{path}: {str(seen.value)[:40]!r} is no frequency")
        else:
            values[name] = int(seen.value)
    first = reading(facts, paths["min"], live or Value(values), int)
    persisted: Observation
    try:
        lines = {name: winner(facts, path) for name, path in paths.items()}
        hardware = {name: _number(facts, _path(cpu, f"cpuinfo_{name}_freq")) for name in paths}
        boot = {name: int(line.value) if line else hardware[name] for name, line in lines.items()}
        known = all(value is not None for value in boot.values())
        persisted = Value(boot) if known else Absent("no tmpfiles.d line")
    except (ReadFailed, ValueError) as error:
        persisted = Unreadable(str(error))
    return msgspec.structs.replace(
        first, evidence=", ".join(f"/{path}" for path in paths.values()), persisted=persisted
    )


TUNABLE = CpuFrequency()
