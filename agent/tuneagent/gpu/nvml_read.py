"""What NVML can report about every GPU, as one snapshot. Used by the NVML child alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pynvml

from tuneagent.formats.cpulist import format_cpulist
from tuneagent.gpu.mig.read import Handle, mig_of
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.topology.picture import normal_address

T = TypeVar("T")
# nvml.h; pynvml 13.615 has a tuple under that name, which it does not take itself.
_P2P_READ = 0
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def snapshot() -> GpuSnapshot:
    """Every GPU with what this board and driver can report."""
    devices: list[GpuDevice] = []
    lost: dict[str, str] = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            devices.append(_device(handle, index))
        except pynvml.NVMLError as error:
            lost[str(index)] = _name(error)
    return GpuSnapshot(
        driver_version=pynvml.nvmlSystemGetDriverVersion(),
        nvml_version=pynvml.nvmlSystemGetNVMLVersion(),
        devices=tuple(devices),
        lost=lost,
    )


def _name(error: Exception) -> str:
    return type(error).__name__.removeprefix("NVMLError_")


def _device(handle: Handle, index: int) -> GpuDevice:
    errors: dict[str, str] = {}

    def ask(field: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:  # one boundary around each field
            errors[field] = _name(error)
            return None

    limits = ask("power_min_w", lambda: pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
    persistence = ask("persistence", lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
    memory = ask("memory_mib", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    ecc = ask("ecc_current", lambda: pynvml.nvmlDeviceGetEccMode(handle))
    remapped = ask("remap_pending", lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    for twin, first in (
        ("memory_used_mib", "memory_mib"),
        ("ecc_pending", "ecc_current"),
        ("remap_failure", "remap_pending"),
    ):
        if first in errors:
            errors[twin] = errors[first]
    pci = ask("pci", lambda: pynvml.nvmlDeviceGetPciInfo(handle))
    return GpuDevice(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        name=ask("name", lambda: pynvml.nvmlDeviceGetName(handle)),
        pci=normal_address(pci.busId) if pci else None,
        vbios=ask("vbios", lambda: pynvml.nvmlDeviceGetVbiosVersion(handle)),
        memory_mib=memory.total // (1 << 20) if memory else None,
        memory_used_mib=memory.used // (1 << 20) if memory else None,
        persistence=None if persistence is None else bool(persistence),
        power_limit_w=_watts(ask("power_limit_w", lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle))),
        power_min_w=_watts(limits[0] if limits else None),
        power_max_w=_watts(limits[1] if limits else None),
        power_default_w=_watts(ask("power_default_w", lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))),
        pcie_width=ask("pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
        pcie_max_width=ask("pcie_max_width", lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        cpu_affinity=ask("cpu_affinity", lambda: _cpu_affinity(handle)),
        bar1_mib=ask("bar1_mib", lambda: pynvml.nvmlDeviceGetBAR1MemoryInfo(handle).bar1Total // (1 << 20)),
        ecc_current=None if ecc is None else bool(ecc[0]),
        ecc_pending=None if ecc is None else bool(ecc[1]),
        ecc_uncorrected=ask("ecc_uncorrected", lambda: _uncorrected(handle)),
        remap_pending=None if remapped is None else bool(remapped[2]),
        remap_failure=None if remapped is None else bool(remapped[3]),
        clock_event_reasons=ask("clock_event_reasons", lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        temperature_c=ask("temperature_c", lambda: _temperature(handle)),
        slowdown_c=ask("slowdown_c", lambda: _slowdown(handle)),
        pcie_replays=ask("pcie_replays", lambda: pynvml.nvmlDeviceGetPcieReplayCounter(handle)),
        compute_mode=ask("compute_mode", lambda: _COMPUTE_MODES.get(pynvml.nvmlDeviceGetComputeMode(handle), "other")),
        nvlinks=ask("nvlinks", lambda: _nvlinks(handle)),
        nvlink_ends=ask("nvlink_ends", lambda: _nvlink_ends(handle)),
        peers=ask("peers", lambda: _peers(handle, index)),
        mig=ask("mig", lambda: mig_of(handle)),
        pids=ask("pids", lambda: _pids(handle)),
        errors=errors,
    )


def _uncorrected(handle: Handle) -> int:
    kind, counter = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    return int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter))


def _temperature(handle: Handle) -> int:
    return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _slowdown(handle: Handle) -> int:
    return int(pynvml.nvmlDeviceGetTemperatureThreshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))


def _nvlinks(handle: Handle) -> tuple[bool, ...]:
    """State of each NVLink, in order. Raises NotSupported for a board without any."""
    found = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            found.append(bool(pynvml.nvmlDeviceGetNvLinkState(handle, link)))
        except (pynvml.NVMLError_InvalidArgument, pynvml.NVMLError_NotSupported):
            break
    if not found:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return tuple(found)


def _nvlink_ends(handle: Handle) -> tuple[str | None, ...]:
    """What is at the far end of each NVLink. Raises NotSupported for a board without any."""
    return tuple(_nvlink_end(handle, link) if up else None for link, up in enumerate(_nvlinks(handle)))


def _nvlink_end(handle: Handle, link: int) -> str | None:
    try:
        if pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link) == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            return "switch"
        return normal_address(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId)
    except pynvml.NVMLError:
        return None


def _peers(handle: Handle, index: int) -> dict[str, bool]:
    """Whether this GPU may read the memory of each other one. Raises NotSupported where there is no other one."""
    found = {}
    for other in range(pynvml.nvmlDeviceGetCount()):
        if other != index:
            peer = pynvml.nvmlDeviceGetHandleByIndex(other)
            found[str(other)] = pynvml.nvmlDeviceGetP2PStatus(handle, peer, _P2P_READ) == pynvml.NVML_P2P_STATUS_OK
    if not found:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return found


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _cpu_affinity(handle: Handle) -> str:
    words = pynvml.nvmlDeviceGetCpuAffinity(handle, 16)
    return format_cpulist(
        word * 64 + bit for word, bits in enumerate(words) for bit in range(64) if int(bits) >> bit & 1
    )


def _pids(handle: Handle) -> tuple[int, ...]:
    running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    return tuple(sorted({process.pid for process in running}))
