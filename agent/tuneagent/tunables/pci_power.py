"""pciPower: whether the kernel may suspend GPUs, NICs and NVMe drives at run time (power/runtime_pm.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.udev import UdevRules, entry_of, key, reading
from tuneagent.topology.picture import PciDevice
from tuneagent.tunables.base import Tunable

_KINDS = ("gpu", "nic", "nvme")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`on` keeps devices of the classes awake, `auto` lets the kernel suspend them."""

    control: Literal["on", "auto"] = "on"
    devices: tuple[Literal["gpu", "nic", "nvme"], ...] = ("gpu", "nic", "nvme")


def _path(subject: Subject) -> str:
    return f"sys/bus/pci/devices/{subject.removeprefix('pci:').removesuffix('/power')}/power/control"


class PciPower(Tunable[Spec, str]):
    """Run-time power management of PCI devices."""

    name = "pciPower"
    group = "pcie/iommu"
    spec_type = Spec
    value_type = str
    prefix = "pci:"
    subject_pattern = r"pci:[0-9a-f:.]+/power"
    about = About(
        Severity.MEDIUM,
        "a suspended device wakes up at the next transfer, milliseconds late",
        ("https://docs.kernel.org/power/runtime_pm.html",),
    )
    drop_in = UdevRules()

    def _devices(self, facts: Facts, spec: Spec) -> list[PciDevice]:
        groups = dict(zip(_KINDS, (facts.topology.pci_gpus, facts.topology.nics, facts.topology.nvme), strict=True))
        return [device for kind in spec.devices for device in groups[kind] or ()]

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each device of the classes."""
        return sorted(f"pci:{device.address}/power" for device in self._devices(facts, spec)) or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value and the udev rule of the next boot."""
        if subject == "host":
            if facts.topology.pci_gpus is None:
                return Reading(Unreadable("the PCI devices of this host are not known"), evidence="/sys/bus/pci")
            return Reading(Absent("no device of these classes"), evidence="/sys/bus/pci")
        path = _path(subject)
        live: Observation = facts.host.observe(path)
        if isinstance(live, Value) and live.value not in ("on", "auto"):
            live = Unreadable(f"/{path}: {str(live.value)[:40]!r} is neither on nor auto")
        return reading(facts, path, live, _entry(subject), str)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The same for every device."""
        return {subject: spec.control for subject in readings if subject != "host"}

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Write the switch."""
        facts.host.files.write(_path(subject), f"{value}\n")

    def entries(self, subject: Subject, value: str) -> Entries:
        """One udev rule."""
        return entry_of(_entry(subject), value)


def _entry(subject: Subject) -> str:
    return key("pci", subject.removeprefix("pci:").removesuffix("/power"), "", "power/control")


TUNABLE = PciPower()
