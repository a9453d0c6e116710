"""mig: the partition of each GPU with exact placements. Keeps instances that fit, touches none in use.

MIG user guide; nvml.h: nvmlDeviceSetMigMode, nvmlDeviceCreateGpuInstanceWithPlacement. On Hopper and later
mode and instances end when the driver is unloaded, so the daemon re-applies them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import msgspec

from tuneagent.contracts.values import About, Disruption, Lifetime, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.ask import set_mig
from tuneagent.gpu.mig.board import MigLayout, Placed
from tuneagent.gpu.mig.planner import Wanted, place
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.gpu import missing_gpu, subjects_of_gpus

Layout = dict[str, int | tuple[int, ...]]


class Impossible(msgspec.Struct, frozen=True):
    """In place of a layout: why this GPU cannot have what the profile asks for."""

    reason: str


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Profile to count, or to the list of its starts, for every GPU; `gpus` names single GPUs (UUID, index of NVML or
    PCI address) with a layout of their own. Without `layout` GPUs that are not named are not touched; with neither only
    the mode is set, and instances are not ours. An empty layout means no instance.
    """

    enabled: bool = True
    layout: Layout | None = None
    gpus: dict[str, Layout] | None = None


# `enabled`, and `instances` unless we do not manage them; or why there is no such layout.
Partition = Union[dict[str, object], Impossible]


class Mig(Tunable[Spec, Partition]):
    """Multi-instance GPU layout."""

    name = "mig"
    group = "mig"
    spec_type = Spec
    value_type = dict[str, object]
    prefix = "gpu:"
    subject_pattern = r"gpu:GPU-[0-9a-f-]+"
    about = About(
        Severity.HIGH,
        "a GPU partitioned differently than declared is advertised wrongly: pods wait, or get too small a slice",
        ("https://docs.nvidia.com/datacenter/tesla/mig-user-guide/",),
        "needs an idle GPU; instances that are already in the layout are kept",
    )
    disruption = Disruption.GPU
    lifetime = Lifetime.DRIVER
    after = ("gpu",)

    def check(self, spec: Spec) -> list[str]:
        """Counts out of range; a layout where MIG is to be off."""
        faults = []
        if spec.gpus is not None and not spec.gpus:
            faults.append(".gpus: names no GPU; without `gpus` the layout applies to every GPU")
        named = spec.gpus or {}
        layouts = [(".layout", spec.layout or {}), *((f".gpus.{name}", one) for name, one in named.items())]
        for where, layout in layouts:
            for profile, given in layout.items():
                count = given if isinstance(given, int) else len(given)
                if not 1 <= count <= 16:
                    faults.append(f"{where}.{profile}: {given!r} is neither a count from 1 to 16 nor a list of starts")
        if not spec.enabled and (spec.layout or spec.gpus):
            faults.append(".layout: given although enabled is false")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each GPU that the spec is about: all, or those named; one for each name that is not a GPU here."""
        if not isinstance(facts.gpus, GpuSnapshot):
            return ["host"]
        named = {name: facts.gpus.named(name) for name in spec.gpus or ()}
        gone = [f"gpu:{name}" for name, device in named.items() if device is None]
        if spec.layout is None and spec.gpus:
            return [*dict.fromkeys(f"gpu:{device.uuid}" for device in named.values() if device is not None), *gone]
        return [*subjects_of_gpus(facts, ""), *gone]

    def not_here(self, facts: Facts, spec: Spec) -> list[str]:
        """Names that are not GPUs of this host, and two names for one GPU.

        A name that no GPU has may belong to one that does not respond: then it is not a fault.
        """
        if not isinstance(facts.gpus, GpuSnapshot):
            return []
        faults = []
        first: dict[str, str] = {}
        for name in spec.gpus or ():
            device = facts.gpus.named(name)
            if device is not None and first.setdefault(device.uuid, name) != name:
                faults.append(f"mig.gpus.{name}: the same GPU as {first[device.uuid]}")
            elif device is None and not facts.gpus.lost:
                faults.append(f"mig.gpus.{name}: not a GPU of this host; present: {facts.gpus.names()}")
        return faults

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Mode and instances, by start."""
        missing = missing_gpu(facts, subject)
        device = _device(facts, subject)
        if missing is not None or device is None:
            return missing or Reading(Unreadable("NVML was not asked"), evidence="NVML")
        mig = device.mig
        if mig is None:
            return Reading(device.observe("mig"), evidence="NVML mig")
        if mig.current != mig.pending:
            wanted = "on" if mig.pending else "off"
            return Reading(Unreadable(f"MIG mode needs a GPU reset to become {wanted}"), evidence="NVML mig")
        live: dict[str, object] = {
            "enabled": mig.current,
            "instances": [
                {
                    "profile": one.profile,
                    "start": one.start,
                    **({} if (computes := mig.computes(one)) is None else {"compute": computes}),
                }
                for one in mig.instances
            ],
        }
        return Reading(Value(live), evidence=f"NVML mig, index {device.index}")

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Partition]:
        """Exact placements, or why they are impossible; without a layout the mode alone."""
        desired: dict[Subject, Partition] = {}
        for subject in readings:
            device = _device(facts, subject)
            if device is None or device.mig is None:
                continue
            if not spec.enabled:
                desired[subject] = {"enabled": False, "instances": []}
                continue
            layout = _layout_of(facts, spec, device)
            if layout is None:
                desired[subject] = {"enabled": True}
                continue
            if isinstance(layout, Impossible):
                desired[subject] = layout
                continue
            wanted = [
                Wanted(profile, given) if isinstance(given, int) else Wanted(profile, len(given), tuple(sorted(given)))
                for profile, given in sorted(layout.items())
            ]
            present = {(one.profile, one.start): bool(one.pids) for one in device.mig.instances}
            placed = place(device.mig.profiles, wanted, present)
            if isinstance(placed, str):
                desired[subject] = Impossible(placed)
                continue
            instances = [{"profile": profile, "start": start} for profile, start in placed]
            desired[subject] = {"enabled": True, "instances": instances}
        return desired

    def matches(self, subject: Subject, observed: Partition, desired: Partition) -> bool:
        """The same; where only the mode is wanted, the mode."""
        if isinstance(desired, Impossible) or isinstance(observed, Impossible):
            return False
        return all(observed.get(key) == value for key, value in desired.items())

    def shown(self, subject: Subject, desired: Partition) -> Partition:
        """For an impossible layout, only the mode."""
        return {"enabled": True} if isinstance(desired, Impossible) else desired

    def value_for(self, subject: Subject, desired: Partition, found: Sequence[Partition | None]) -> Partition:
        """Where only the mode is wanted: the mode, without any instance. What others create in it is then theirs."""
        return desired if isinstance(desired, Impossible) else {"instances": [], **desired}

    def refuse(self, facts: Facts, subject: Subject, desired: Partition) -> str | None:
        """An impossible layout, or one that would touch an instance whose compute slices someone has divided."""
        if isinstance(desired, Impossible):
            return desired.reason
        device = _device(facts, subject)
        if device is None or device.mig is None:
            return None
        kept = _placed(desired)
        for instance in device.mig.instances:
            computes = device.mig.computes(instance)
            # A wanted instance that has no compute instance yet gets one; that takes nothing from anyone.
            if computes is None or (computes == "none" and (instance.profile, instance.start) in kept):
                continue
            return (
                f"{instance.profile} at slice {instance.start} has compute instances of its own ({computes}), "
                "which no profile can describe yet: this GPU is left as it is"
            )
        return None

    def busy(self, facts: Facts, subject: Subject, desired: Partition) -> str | None:
        """What is in use and would be touched."""
        device = _device(facts, subject)
        if device is None or device.mig is None or isinstance(desired, Impossible):
            return None
        if device.mig.current != desired["enabled"] and device.pids:
            return f"MIG mode cannot change while the GPU is in use by pid {_pids(device.pids)}"
        kept = _placed(desired)
        for instance in device.mig.instances:
            if (instance.profile, instance.start) not in kept and instance.pids:
                return f"{instance.profile} at slice {instance.start} is in use by pid {_pids(instance.pids)}"
        return None

    def write(self, facts: Facts, subject: Subject, value: Partition) -> None:
        """Set mode and instances through NVML; what fails is reverted there."""
        if isinstance(value, Impossible):
            raise WriteFailed(value.reason)
        set_mig(facts.host, subject.removeprefix("gpu:"), msgspec.convert(value, MigLayout))


def _placed(partition: dict[str, object]) -> set[tuple[str, int]]:
    """Profile and start of each instance of a partition."""
    instances = msgspec.convert(partition.get("instances", []), list[Placed])
    return {(one.profile, one.start) for one in instances}


def _layout_of(facts: Facts, spec: Spec, device: GpuDevice) -> Layout | Impossible | None:
    """The layout of one GPU, its own or that of all; None where only the mode is wanted; why there is none."""
    named = {}
    for name, layout in (spec.gpus or {}).items():
        found = facts.gpus.named(name) if isinstance(facts.gpus, GpuSnapshot) else None
        if found is not None and found.uuid == device.uuid:
            named[name] = layout
    if len(named) > 1:
        return Impossible(f"{' and '.join(sorted(named))} are names for the same GPU")
    return next(iter(named.values()), spec.layout)


def _device(facts: Facts, subject: Subject) -> GpuDevice | None:
    return facts.gpus.device(subject.removeprefix("gpu:")) if isinstance(facts.gpus, GpuSnapshot) else None


def _pids(pids: Sequence[int]) -> str:
    return ", ".join(str(pid) for pid in pids[:8])


TUNABLE = Mig()
