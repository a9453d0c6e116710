"""gpu: persistence mode and power limit of each GPU, through NVML. Both are lost when the driver is unloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import About, Absent, Lifetime, Reading, Severity, Subject, Unreadable
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.ask import set_persistence, set_power_limit
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.tunables.base import Tunable

_FIELDS = {"persistence": "persistence", "powerLimitW": "power_limit_w"}


SettingValue = bool | float


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is given applies to every GPU."""

    persistence: bool | None = None
    power_limit_w: int | None = msgspec.field(default=None, name="powerLimitW")


def subjects_of_gpus(facts: Facts, *suffixes: str) -> list[Subject]:
    """A subject for each GPU and suffix, and one for each GPU that is lost; `host` where there are none."""
    if not isinstance(facts.gpus, GpuSnapshot):
        return ["host"]
    found = [f"gpu:{device.uuid}{suffix}" for device in facts.gpus.devices for suffix in suffixes]
    found += [f"gpu:index-{index}" for index in facts.gpus.lost]
    return found or ["host"]


def missing_gpu(facts: Facts, subject: Subject) -> Reading | None:
    """Reading for a subject without a GPU behind it; None where there is one."""
    evidence = "NVML"
    if isinstance(facts.gpus, Unreadable):
        return Reading(facts.gpus, evidence=evidence)
    if isinstance(facts.gpus, Absent):
        nvidia = any(device.vendor == "10de" for device in facts.topology.pci_gpus or ())
        if nvidia:
            return Reading(Unreadable(f"an NVIDIA device is present, but {facts.gpus.why}"), evidence=evidence)
        return Reading(facts.gpus, evidence=evidence)
    name = subject.removeprefix("gpu:").partition("/")[0]
    if name.startswith("index-"):
        reason = facts.gpus.lost.get(name.removeprefix("index-"), "gone")
        return Reading(Unreadable(f"NVML lists GPU {name.removeprefix('index-')} but: {reason}"), evidence=evidence)
    if facts.gpus.device(name) is None and facts.gpus.lost:
        return Reading(Unreadable("not among the GPUs that respond, and a GPU of this host is lost"), evidence=evidence)
    if facts.gpus.device(name) is None:
        return Reading(Absent(f"gone: not a GPU of this host; present: {facts.gpus.names()}"), evidence=evidence)
    return None


class Gpu(Tunable[Spec, SettingValue]):
    """Settings of the driver for each GPU."""

    name = "gpu"
    group = "gpu settings"
    spec_type = Spec
    value_type = SettingValue
    prefix = "gpu:"
    subject_pattern = r"gpu:GPU-[0-9a-f-]+/[A-Za-z]+"
    about = About(
        Severity.MEDIUM,
        "without persistence the driver forgets clocks and limits when the last client ends",
        ("https://docs.nvidia.com/deploy/driver-persistence/", "nvml.h: nvmlDeviceSetPowerManagementLimit"),
        "lost when the driver is unloaded; the daemon re-applies it",
    )
    lifetime = Lifetime.DRIVER

    def check(self, spec: Spec) -> list[str]:
        """A power limit that no card has."""
        if spec.power_limit_w is not None and not 1 <= spec.power_limit_w <= 5000:
            return [f".powerLimitW: {spec.power_limit_w} is not between 1 and 5000"]
        return []

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each GPU and setting of the spec."""
        chosen = [] if spec.persistence is None else ["/persistence"]
        chosen += [] if spec.power_limit_w is None else ["/powerLimitW"]
        return subjects_of_gpus(facts, *chosen)

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Value that NVML reports."""
        missing = missing_gpu(facts, subject)
        if missing is not None or not isinstance(facts.gpus, GpuSnapshot):
            return missing or Reading(Unreadable("NVML was not asked"), evidence="NVML")
        uuid, _, setting = subject.removeprefix("gpu:").partition("/")
        device = facts.gpus.device(uuid)
        if device is None or setting not in _FIELDS:
            return Reading(Absent("no such setting"), evidence="NVML")
        return Reading(device.observe(_FIELDS[setting]), evidence=f"NVML {_FIELDS[setting]}, index {device.index}")

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """The same for every GPU."""
        desired: dict[Subject, SettingValue] = {}
        for subject in readings:
            if subject.endswith("/persistence") and spec.persistence is not None:
                desired[subject] = spec.persistence
            elif subject.endswith("/powerLimitW"):
                desired[subject] = float(spec.power_limit_w or 0)
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """A limit outside what the card allows."""
        uuid, _, setting = subject.removeprefix("gpu:").partition("/")
        device = facts.gpus.device(uuid) if isinstance(facts.gpus, GpuSnapshot) else None
        if device is None or setting != "powerLimitW":
            return None
        if device.power_min_w is None or device.power_max_w is None:
            return "the card does not say which power limits it allows"
        if not device.power_min_w <= desired <= device.power_max_w:
            return f"{desired:g} W is outside {device.power_min_w:g} to {device.power_max_w:g} W of {device.name}"
        return None

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Set it through NVML."""
        uuid, _, setting = subject.removeprefix("gpu:").partition("/")
        if setting == "persistence":
            set_persistence(facts.host, uuid, bool(value))
        else:
            set_power_limit(facts.host, uuid, value)


TUNABLE = Gpu()
