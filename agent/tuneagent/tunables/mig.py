"""mig: the partition of each GPU with exact placements. Keeps instances that fit, touches none in use.

MIG user guide; nvml.h: nvmlDeviceSetMigMode, nvmlDeviceCreateGpuInstanceWithPlacement. On Hopper and later
mode and instances end when the driver is unloaded, so the daemon asserts them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tuneagent.gpu import GpuDevice, GpuSnapshot, set_mig
from tuneagent.mig_layout import Wanted, place
from tuneagent.model import (
    About,
    Disruption,
    Lifetime,
    Reading,
    Setting,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.tunable import Facts, Tunable
from tuneagent.tunables.gpu import missing_gpu, subjects_of_gpus

Layout = dict[str, int | tuple[int, ...]]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Profile to count, or to the list of its starts. `gpus` gives single GPUs, by UUID, a layout of their own."""

    enabled: bool = True
    layout: Layout = {}
    gpus: dict[str, Layout] = {}


class Mig(Tunable[Spec]):
    """Multi-instance GPU layout."""

    name = "mig"
    group = "mig"
    spec_type = Spec
    about = About(
        Severity.HIGH,
        "a GPU cut otherwise than declared is advertised wrong: pods wait, or get a slice too small",
        ("https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",),
        "needs the GPU idle; instances that are in the layout already are kept",
    )
    disruption = Disruption.GPU
    lifetime = Lifetime.DRIVER
    after = ("gpu",)

    def check(self, spec: Spec) -> list[str]:
        """Counts out of range; a layout for GPUs whose MIG is to be off."""
        faults = []
        for where, layout in ((".layout", spec.layout), *((f".gpus.{uuid}", one) for uuid, one in spec.gpus.items())):
            for profile, given in layout.items():
                count = given if isinstance(given, int) else len(given)
                if not 1 <= count <= 16:
                    faults.append(f"{where}.{profile}: {given!r} is no count between 1 and 16 and no list of starts")
        if not spec.enabled and (spec.layout or spec.gpus):
            faults.append(".layout: given although enabled is false")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each GPU."""
        return subjects_of_gpus(facts, "")

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Mode and instances, by start."""
        missing = missing_gpu(facts, subject)
        device = _device(facts, subject)
        if missing is not None or device is None:
            return missing or Reading(Unreadable("NVML was not asked"), evidence="NVML")
        if device.mig is None:
            return Reading(device.observe("mig"), evidence="NVML mig")
        if device.mig.current != device.mig.pending:
            wanted = "on" if device.mig.pending else "off"
            return Reading(Unreadable(f"MIG mode waits for a GPU reset to become {wanted}"), evidence="NVML mig")
        live: dict[str, Any] = {
            "enabled": device.mig.current,
            "instances": [
                {"profile": one.profile, "start": one.start, **({} if one.compute_instances else {"compute": "none"})}
                for one in device.mig.instances
            ],
        }
        return Reading(Value(live), evidence=f"NVML mig, index {device.index}")

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Setting]:
        """Exact placements; where they are impossible the reason stands in their place, and `refuse` gives it."""
        desired: dict[Subject, Setting] = {}
        for subject in readings:
            device = _device(facts, subject)
            if device is None or device.mig is None:
                continue
            if not spec.enabled:
                desired[subject] = {"enabled": False, "instances": []}
                continue
            layout = spec.gpus.get(device.uuid, spec.layout)
            wanted = [
                Wanted(profile, given) if isinstance(given, int) else Wanted(profile, len(given), tuple(sorted(given)))
                for profile, given in sorted(layout.items())
            ]
            present = {(one.profile, one.start): bool(one.pids) for one in device.mig.instances}
            placed = place(device.mig.profiles, wanted, present)
            desired[subject] = {
                "enabled": True,
                "instances": placed
                if isinstance(placed, str)
                else [{"profile": profile, "start": start} for profile, start in placed],
            }
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: Setting) -> str | None:
        """An impossible layout, or one that would touch something in use."""
        if isinstance(desired["instances"], str):
            return str(desired["instances"])
        device = _device(facts, subject)
        if device is None or device.mig is None:
            return None
        if device.mig.current != desired["enabled"] and device.pids:
            return f"MIG mode cannot change while the GPU is in use by pid {_pids(device.pids)}"
        kept = {(one["profile"], one["start"]) for one in desired["instances"]}
        for instance in device.mig.instances:
            if (instance.profile, instance.start) not in kept and instance.pids:
                return f"{instance.profile} at slice {instance.start} is in use by pid {_pids(instance.pids)}"
        return None

    def write(self, facts: Facts, subject: Subject, value: Setting) -> None:
        """Mode and instances through NVML; what fails is taken back there."""
        set_mig(facts.host, subject.removeprefix("gpu:"), value)


def _device(facts: Facts, subject: Subject) -> GpuDevice | None:
    return facts.gpus.device(subject.removeprefix("gpu:")) if isinstance(facts.gpus, GpuSnapshot) else None


def _pids(pids: Sequence[int]) -> str:
    return ", ".join(str(pid) for pid in pids[:8])


TUNABLE = Mig()
