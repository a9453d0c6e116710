"""cpuFrequency: limits of each CPU's clock, the energy preference, and boost (admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

BASE = "sys/devices/system/cpu"
NO_TURBO, BOOST = f"{BASE}/intel_pstate/no_turbo", f"{BASE}/cpufreq/boost"
_PREFERENCES = ("default", "performance", "balance_performance", "balance_power", "power")


SettingValue = int | str | bool


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Limits in kHz, or `hardware` for the widest that the CPU has; preference and boost."""

    min: int | Literal["hardware", "max"] | None = None
    max: int | Literal["hardware"] | None = None
    energy_preference: Literal["default", "performance", "balance_performance", "balance_power", "power"] | None = None
    boost: bool | None = None


def _path(cpu: str, file: str) -> str:
    return f"{BASE}/cpu{cpu}/cpufreq/{file}"


class CpuFrequency(Tunable[Spec, SettingValue]):
    """Clock limits of each CPU, energy preference, boost. The upper limit is written before the lower one."""

    name = "cpuFrequency"
    group = "cpu"
    spec_type = Spec
    value_type = SettingValue
    subject_pattern = r"cpu:[0-9]+/[A-Za-z]+|boost:(host|policy[0-9]+)"
    about = About(
        Severity.MEDIUM,
        "a clock that is held down, or that must first ramp up, delays the thread that feeds the GPU",
        (
            "https://docs.kernel.org/admin-guide/pm/cpufreq.html",
            "https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
        ),
    )
    drop_in = TmpfilesD()
    # With the performance governor, a driver that chooses the clock itself refuses any other preference.
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
        # In the order of their names boost comes first, since it moves what the hardware offers, then max, then min.
        if spec.max is not None:
            found += [f"cpu:{cpu}/max" for cpu in cpus]
        if spec.min is not None:
            found += [f"cpu:{cpu}/min" for cpu in cpus]
        if spec.energy_preference is not None:
            found += [f"cpu:{cpu}/preference" for cpu in cpus]
        if not cpus:
            return ["host"]
        if spec.boost is None:
            return found
        # The switch of the host turns each of them off, and none of them can be on without it.
        own = [f"boost:{policy}" for policy in _policies_with_boost(facts)] if spec.boost else []
        return ["boost:host", *own, *found]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One of them, now and at the next boot."""
        if subject == "host":
            if not facts.topology.online:
                return Reading(Unreadable("the CPUs of this host are not known"), evidence=f"/{BASE}")
            return Reading(Absent("no CPU has cpufreq here, as is usual in a virtual machine"), evidence=f"/{BASE}")
        if subject.startswith("boost:"):
            return _boost(facts, *_boost_file(facts, subject))
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part in ("min", "max"):
            return _limit(facts, cpu, part)
        path = _path(cpu, "energy_performance_preference")
        live: Observation = facts.host.observe(path)
        if isinstance(live, Value) and live.value not in _PREFERENCES and not str(live.value).isdigit():
            live = Unreadable(f"/{path}: {str(live.value)[:40]!r} is not a preference")
        return reading(facts, path, live)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """Limits within what the hardware has; what the spec leaves out stays as found."""
        desired: dict[Subject, SettingValue] = {}
        for subject, found in readings.items():
            if subject.startswith("boost:"):
                if spec.boost is not None:
                    desired[subject] = spec.boost
            elif subject.endswith("/preference") and spec.energy_preference is not None:
                desired[subject] = spec.energy_preference
            elif subject != "host" and isinstance(found.live, Value):
                cpu, _, part = subject.removeprefix("cpu:").partition("/")
                value = spec.max if part == "max" else spec.min
                end = "min" if part == "min" and value == "hardware" else "max"
                chosen = _number(facts, _path(cpu, f"cpuinfo_{end}_freq")) if isinstance(value, str) else value
                if chosen is not None:
                    desired[subject] = chosen
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """A frequency that the CPU does not have."""
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part not in ("min", "max"):
            return None
        low, high = (_number(facts, _path(cpu, f"cpuinfo_{end}_freq")) for end in ("min", "max"))
        if low is not None and high is not None and isinstance(desired, int) and not low <= desired <= high:
            return f"{desired} kHz is not within {low} to {high} kHz"
        return None

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Write it."""
        files = facts.host.files
        if subject.startswith("boost:"):
            path, inverse = _boost_file(facts, subject)
            files.write(path, f"{int(value != inverse)}\n")
            return
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part == "preference":
            files.write(_path(cpu, "energy_performance_preference"), f"{value}\n")
            return
        files.write(_path(cpu, f"scaling_{part}_freq"), f"{value}\n")

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """`w` lines; `max` sorts before `min`, and at boot the limits are the widest, so that order is right."""
        if subject == "boost:host":
            return {NO_TURBO: str(int(not value)), BOOST: str(int(value))}
        if subject.startswith("boost:"):
            return {_policy_boost(subject.removeprefix("boost:")): str(int(value))}
        cpu, _, part = subject.removeprefix("cpu:").partition("/")
        if part == "preference":
            return {_path(cpu, "energy_performance_preference"): str(value)}
        return {_path(cpu, f"scaling_{part}_freq"): str(value)}


def _number(facts: Facts, path: str) -> int | None:
    try:
        text = facts.host.files.read_or(path, "")
    except ReadFailed:
        return None
    return int(text) if text.isdigit() else None


def _policy_boost(policy: str) -> str:
    return f"{BASE}/cpufreq/{policy}/boost"


def _policies_with_boost(facts: Facts) -> list[str]:
    """Groups of CPUs that have a switch of their own (per-policy boost)."""
    found = (name for name in facts.host.files.names(f"{BASE}/cpufreq") if name.removeprefix("policy").isdigit())
    return [name for name in sorted(found) if facts.host.files.exists(_policy_boost(name))]


def _boost_file(facts: Facts, subject: Subject) -> tuple[str, bool]:
    """The switch, and whether its meaning is inverted."""
    if subject != "boost:host":
        return _policy_boost(subject.removeprefix("boost:")), False
    return (NO_TURBO, True) if facts.host.files.is_dir(f"{BASE}/intel_pstate") else (BOOST, False)


def _boost(facts: Facts, path: str, inverse: bool) -> Reading:
    live: Observation = facts.host.observe(path)
    if isinstance(live, Value):
        known = live.value in ("0", "1")
        live = (
            Value((live.value == "1") != inverse) if known else Unreadable(f"/{path}: {live.value!r} is not a switch")
        )
    return reading(facts, path, live, lambda text: (text == "1") != inverse, default=Value(True))


def _limit(facts: Facts, cpu: str, end: str) -> Reading:
    path = _path(cpu, f"scaling_{end}_freq")
    live: Observation = facts.host.observe(path)
    if isinstance(live, Value):
        known = str(live.value).isdigit()
        live = (
            Value(int(str(live.value)))
            if known
            else Unreadable(f"/{path}: {str(live.value)[:40]!r} is not a frequency")
        )
    # Without a line the kernel starts with the widest limits that the hardware has.
    widest = _number(facts, _path(cpu, f"cpuinfo_{end}_freq"))
    return reading(facts, path, live, int, default=None if widest is None else Value(widest))


TUNABLE = CpuFrequency()
