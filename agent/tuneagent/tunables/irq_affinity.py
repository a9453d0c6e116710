"""irqAffinity: interrupts of NICs and NVMe drives on the CPUs of their own NUMA node (core-api/irq/irq-affinity)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Absent, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import plan_of, waiting
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.topology.picture import PciDevice
from tuneagent.tunables.base import Tunable

_SUBJECT = lazy_regex(r"pci:([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])/msix:(\d+)\Z")
# Queues whose interrupts the kernel spreads itself (genirq managed affinity): a write fails with EIO.
_MANAGED = lazy_regex(r"nvme\d+q[1-9]\d*|virtio\d+-req\.\d+")
VECTOR_LIMIT = 4096


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Device classes to keep on their own node, and CPUs to stay away from."""

    network: Literal["local"] | None = None
    nvme: Literal["local"] | None = None
    avoid: Literal["isolated"] | None = None


class IrqAffinity(Tunable[Spec, str]):
    """Affinity of each interrupt vector of a device."""

    name = "irqAffinity"
    group = "irq"
    spec_type = Spec
    value_type = str
    prefix = "pci:"
    subject_pattern = r"pci:[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/msix:[0-9]+"
    about = About(
        Severity.MEDIUM,
        "an interrupt served on the far socket costs a trip over the socket link for every packet",
        ("https://docs.kernel.org/core-api/irq/irq-affinity.html",),
        "interrupt numbers change with each boot, so the daemon re-applies this; nothing is kept in /etc",
    )

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each vector of the devices chosen."""
        if facts.topology.nics is None:
            return ["host"]
        chosen: list[PciDevice] = []
        if spec.network:
            chosen += facts.topology.nics or ()
        if spec.nvme:
            chosen += facts.topology.nvme or ()
        found = [
            f"pci:{device.address}/msix:{vector}"
            for device in chosen
            for vector in range(len(_interrupts(facts, device.address)))
        ]
        return found or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Allowed CPUs of the vector, as a CPU list."""
        match = _SUBJECT.match(subject)
        if match is None:
            if facts.topology.nics is None:
                return Reading(Unreadable("the PCI devices of this host are not known"), evidence="/sys/bus/pci")
            return Reading(Absent("no device of these classes has interrupts"), evidence="/proc/interrupts")
        address, vector = match.group(1), int(match.group(2))
        numbers = _interrupts(facts, address)
        if vector >= len(numbers):
            return Reading(Absent(f"{address} has no vector {vector} now"), evidence=f"/sys/bus/pci/devices/{address}")
        number = numbers[vector]
        path = f"proc/irq/{number}/smp_affinity_list"
        if _MANAGED.search(facts.once("interrupts", lambda: _actions(facts)).get(number, "")):
            return Reading(Absent(f"interrupt {number} is spread by the kernel itself"), evidence=f"/{path}")
        seen = facts.host.observe(path)
        if isinstance(seen, Value):
            try:
                seen = Value(format_cpulist(parse_cpulist(str(seen.value))))
            except ValueError as error:
                seen = Unreadable(f"/{path}: {error}")
        owner = "irqbalance.service" if facts.host.files.names("run/irqbalance") else None
        return Reading(seen, evidence=f"/{path}", owner=owner)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """Online CPUs of the device's node, without isolated ones; nothing where the node is not known."""
        isolated: frozenset[int] = frozenset()
        if spec.avoid == "isolated":
            try:
                isolated = parse_cpulist(facts.host.files.read_or("sys/devices/system/cpu/isolated", ""))
            except (ValueError, ReadFailed):
                return {}
            plan = plan_of(facts)
            if plan is not None and plan.faults:
                return {}
            isolated |= plan.isolated if plan is not None else frozenset()
        desired: dict[Subject, str] = {}
        for subject in readings:
            match = _SUBJECT.match(subject)
            device = facts.topology.pci(match.group(1)) if match else None
            local = facts.topology.local_cpus(device) if device else None
            if local is not None and local - isolated:
                desired[subject] = format_cpulist(local - isolated)
        return desired

    def matches(self, subject: Subject, observed: str, desired: str) -> bool:
        """Any part of the wanted CPUs will do: drivers spread their queues over them one by one."""
        return parse_cpulist(observed) <= parse_cpulist(desired)

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A CPU plan for another topology."""
        return waiting(facts) if getattr(facts.specs.get(self.name), "avoid", None) else None

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Write the CPU list."""
        match = _SUBJECT.match(subject)
        numbers = _interrupts(facts, match.group(1)) if match else []
        if match is None or int(match.group(2)) >= len(numbers):
            raise ReadFailed(f"{subject}: no such interrupt now")
        facts.host.files.write(f"proc/irq/{numbers[int(match.group(2))]}/smp_affinity_list", f"{value}\n")


def _interrupts(facts: Facts, address: str) -> list[int]:
    """Interrupt numbers of a device, in the order of its vectors."""
    try:
        names = facts.host.files.names(f"sys/bus/pci/devices/{address}/msi_irqs")
    except ReadFailed:
        return []
    return sorted(int(name) for name in names if name.isdigit())[:VECTOR_LIMIT]


def _actions(facts: Facts) -> dict[int, str]:
    """Interrupt number to the name of its last action; empty where /proc/interrupts cannot be read."""
    try:
        return actions_of(facts.host.files.read("proc/interrupts"))
    except (PathMissing, ReadFailed):
        return {}


def actions_of(text: str) -> dict[int, str]:
    """The same from the text of /proc/interrupts."""
    found = {}
    for number, rest in re.findall(r"^[ \t]*(\d{1,7}):(.*)$", text, re.MULTILINE):
        words = rest.split()
        if words:
            found[int(number)] = words[-1]
    return found


TUNABLE = IrqAffinity()
