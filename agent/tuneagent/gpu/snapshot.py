"""GPU facts and settings, asked of NVML in a short-lived child process.

A child per pass, because an open NVML handle blocks the unload of the driver and a hung NVML call cannot be
interrupted. No driver, a lost GPU and a call that this board lacks are values, not exceptions.
"""

from __future__ import annotations

import msgspec

from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.gpu.mig.board import Mig


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
    # For each NVLink the PCI address of the GPU at its far end, `switch`, or None where it is down or not told.
    nvlink_ends: tuple[str | None, ...] | None = None
    # For each GPU by its index: whether this one may read its memory directly.
    peers: dict[str, bool] | None = None
    mig: Mig | None = None
    pids: tuple[int, ...] | None = None
    errors: dict[str, str] = {}

    def observe(self, field: str) -> Observation:
        """One field as an observation: not supported is Absent, any other error Unreadable."""
        value = getattr(self, field)
        if value is not None:
            return Value(value)
        error = self.errors.get(field, "no value")
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


def nvlinks_between(snapshot: GpuSnapshot) -> dict[frozenset[str], int]:
    """NVLinks between two GPUs by their PCI addresses: direct ones, or those that both have to switches.

    A pair that is not known is left out.
    """
    found: dict[frozenset[str], int] = {}
    for place, one in enumerate(snapshot.devices):
        for other in snapshot.devices[place + 1 :]:
            if any(device.nvlink_ends is None and any(device.nvlinks or ()) for device in (one, other)):
                # As captures of earlier versions have it: links are up, and nobody asked what is at their far end.
                continue
            ends = [device.nvlink_ends or () for device in (one, other)]
            direct = sum(end == other.pci for end in ends[0])
            count = direct or min(sum(end == "switch" for end in side) for side in ends)
            found[frozenset((one.pci or "", other.pci or ""))] = count
    return found


# What one pass knows of the GPUs: a snapshot, no driver, or a failure.
GpuFacts = GpuSnapshot | Absent | Unreadable
