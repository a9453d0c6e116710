"""GPU facts and settings, asked of NVML in a short-lived child process.

A child per pass, because an open NVML handle blocks the unload of the driver and a hung NVML call cannot be
interrupted. No driver, a lost GPU and a call that this board lacks are values, not exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tuneagent.errors import CommandFailed, ReadFailed, WriteFailed
from tuneagent.host import Host
from tuneagent.host.commands import run_module
from tuneagent.host.processes import environment
from tuneagent.model import Absent, Observation, Unreadable, Value

SNAPSHOT_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 60.0
# A tree or capture keeps the snapshot of its machine here, relative to its root.
RECORDED_PATH = "tuneagent/gpus.json"


class ComputeInstance(msgspec.Struct, frozen=True):
    """A compute instance inside a GPU instance. `slices` is 0 where it was not read, as in older captures."""

    id: int
    profile_id: int
    slices: int = 0


class GpuInstance(msgspec.Struct, frozen=True):
    """A GPU instance. `start` and `size` are memory slices; `pids` run in it."""

    id: int
    profile: str
    start: int
    size: int
    compute_instances: tuple[ComputeInstance, ...] = ()
    pids: tuple[int, ...] = ()


def compute_layout(slices: int, computes: Sequence[int]) -> str | None:
    """How the compute slices of a GPU instance are divided, such as `1c+2c`; `none` without any compute instance.

    None where one compute instance has all of them, which is what MIG layouts of ours mean. `computes` are the slices
    of each compute instance, 0 for one whose slices are not known.
    """
    if not computes:
        return "none"
    if len(computes) == 1 and computes[0] in (0, slices):
        return None
    return "+".join(f"{one}c" if one else "?c" for one in sorted(computes))


class MigProfile(msgspec.Struct, frozen=True):
    """A GPU instance profile as the card offers it. `id` is what create calls take, not the profile index."""

    name: str
    id: int
    slices: int
    max_instances: int
    memory_mib: int
    starts: tuple[int, ...]
    size: int


class Mig(msgspec.Struct, frozen=True):
    """MIG state of one GPU."""

    current: bool
    pending: bool
    profiles: tuple[MigProfile, ...] = ()
    instances: tuple[GpuInstance, ...] = ()

    def computes(self, instance: GpuInstance) -> str | None:
        """The compute layout of one of its instances; None for one compute instance that has all of it."""
        slices = next((profile.slices for profile in self.profiles if profile.name == instance.profile), 0)
        return compute_layout(slices, [one.slices for one in instance.compute_instances])


class GpuDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. A field that could not be read is None and has its NVML error in `errors`."""

    uuid: str
    index: int
    name: str | None = None
    pci: str | None = None
    vbios: str | None = None
    memory_mib: int | None = None
    persistence: bool | None = None
    power_limit_w: float | None = None
    power_min_w: float | None = None
    power_max_w: float | None = None
    power_default_w: float | None = None
    pcie_width: int | None = None
    pcie_max_width: int | None = None
    cpu_affinity: str | None = None
    memory_used_mib: int | None = None
    bar1_mib: int | None = None
    ecc_current: bool | None = None
    ecc_pending: bool | None = None
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failure: bool | None = None
    clock_event_reasons: int | None = None
    temperature_c: int | None = None
    slowdown_c: int | None = None
    pcie_replays: int | None = None
    compute_mode: str | None = None
    nvlinks: tuple[bool, ...] | None = None
    mig: Mig | None = None
    pids: tuple[int, ...] | None = None
    errors: dict[str, str] = {}

    def observe(self, field: str) -> Observation:
        """One field as an observation: not supported is Absent, any other error Unreadable."""
        value = getattr(self, field)
        if value is not None:
            return Value(value)
        error = self.errors.get(field, "not reported")
        if error in ("NotSupported", "FunctionNotFound"):
            return Absent(f"NVML: {error} on {self.name or self.uuid}")
        return Unreadable(f"NVML: {error}")


class GpuSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs of a host at one moment. `lost` names GPUs that NVML lists but cannot open."""

    driver_version: str
    nvml_version: str | None = None
    devices: tuple[GpuDevice, ...] = ()
    lost: dict[str, str] = {}

    def users(self) -> dict[int, list[str]]:
        """PCI addresses of the GPUs of each process, those of MIG instances included."""
        used: dict[int, list[str]] = {}
        for device in self.devices:
            inside = [pid for instance in device.mig.instances for pid in instance.pids] if device.mig else []
            for pid in {*(device.pids or ()), *inside}:
                used.setdefault(pid, []).append(device.pci or "")
        return used

    def device(self, uuid: str) -> GpuDevice | None:
        """The GPU of that UUID."""
        return next((device for device in self.devices if device.uuid == uuid), None)

    def named(self, name: str) -> GpuDevice | None:
        """The GPU that people mean by a UUID, an index of NVML or a PCI address."""
        for device in self.devices:
            names = (device.uuid, str(device.index), device.pci, (device.pci or "").removeprefix("0000:"))
            if name.lower() in [one.lower() for one in names if one]:
                return device
        return None

    def names(self) -> str:
        """The GPUs that are here, as a sentence lists them."""
        return (
            ", ".join(f"{device.index} {device.uuid} {device.pci or ''}".strip() for device in self.devices) or "none"
        )


# What one pass knows of the GPUs: a snapshot, no driver, or a failure.
GpuFacts = GpuSnapshot | Absent | Unreadable


class _Answer(msgspec.Struct):
    """What the child prints."""

    snapshot: GpuSnapshot | None = None
    absent: str | None = None
    error: str | None = None


def read_gpus(host: Host) -> GpuFacts:
    """All GPUs of the host. Absent means that there is no driver, Unreadable that it did not answer."""
    if host.source != "live":
        return _recorded(host)
    if _is_out_of_the_question(host):
        return Absent("no NVIDIA driver: none is loaded, and no NVIDIA device is on the PCI bus")
    try:
        answer = _child(host, ["snapshot"], SNAPSHOT_TIMEOUT_S)
    except (CommandFailed, ReadFailed) as error:
        return Unreadable(str(error))
    if answer.snapshot is not None:
        return answer.snapshot
    return Unreadable(answer.error) if answer.error else Absent(answer.absent or "no NVIDIA driver")


def _is_out_of_the_question(host: Host) -> bool:
    """Whether asking NVML can be spared. TUNEAGENT_NVML=ask asks all the same, for a bus that hides its devices."""
    if environment("TUNEAGENT_NVML") == "ask" or host.files.exists("proc/driver/nvidia"):
        return False
    try:
        devices = host.files.names("sys/bus/pci/devices")
        return bool(devices) and all(
            host.files.read_or(f"sys/bus/pci/devices/{name}/vendor", "") not in ("", "0x10de") for name in devices
        )
    except ReadFailed:
        return False


def set_persistence(host: Host, uuid: str, enabled: bool) -> None:
    """Set persistence mode of one GPU. Raises WriteFailed."""
    _write(host, ["persistence", uuid, str(int(enabled))])


def set_power_limit(host: Host, uuid: str, limit_w: float) -> None:
    """Set the power limit of one GPU, in watts. Raises WriteFailed."""
    _write(host, ["power-limit", uuid, str(limit_w)])


def set_mig(host: Host, uuid: str, layout: dict[str, Any]) -> None:
    """Bring one GPU to `{enabled, instances: [{profile, start}]}`, keeping instances that are in it already.

    Raises WriteFailed, which says what is there after the failure. An instance whose compute slices are divided is
    never destroyed.
    """
    _write(host, ["mig", uuid, msgspec.json.encode(layout).decode()])


def _recorded(host: Host) -> GpuFacts:
    seen = host.observe(RECORDED_PATH)
    if not isinstance(seen, Value):
        return Unreadable(f"NVML cannot be asked on a {host.source}")
    try:
        answer = msgspec.json.decode(seen.value, type=_Answer)
    except msgspec.MsgspecError as error:
        return Unreadable(f"{RECORDED_PATH}: {error}")
    if answer.snapshot is not None:
        return answer.snapshot
    return Unreadable(answer.error) if answer.error else Absent(answer.absent or "no NVIDIA driver")


def record(facts: GpuFacts) -> bytes:
    """What a capture keeps, as `read_gpus` reads it back."""
    if isinstance(facts, GpuSnapshot):
        return msgspec.json.encode(_Answer(snapshot=facts))
    if isinstance(facts, Absent):
        return msgspec.json.encode(_Answer(absent=facts.why))
    return msgspec.json.encode(_Answer(error=facts.error))


def _child(host: Host, arguments: list[str], timeout_s: float) -> _Answer:
    done = run_module("tuneagent.nvml", arguments, timeout_s, {"TUNEAGENT_NVML_ROOT": host.files.root})
    try:
        return msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.MsgspecError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.code}"]
        raise ReadFailed(f"NVML child ended without an answer: {last[0]}") from None


def _write(host: Host, arguments: list[str]) -> None:
    if host.source != "live":
        raise WriteFailed(f"GPU settings cannot be written on a {host.source}")
    try:
        answer = _child(host, arguments, WRITE_TIMEOUT_S)
    except (CommandFailed, ReadFailed) as error:
        raise WriteFailed(str(error)) from None
    if answer.error or answer.absent:
        raise WriteFailed(answer.error or answer.absent)
