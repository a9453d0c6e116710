"""What NVML can tell of every GPU, as one snapshot. Used by the NVML child alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pynvml

from tuneagent.cpulist import format_cpulist
from tuneagent.gpu import ComputeInstance, GpuDevice, GpuInstance, GpuSnapshot, Mig, MigProfile
from tuneagent.topology import normal_address

_INSTANCE_LIMIT = 16
_TWINS = {"memory_used_mib": "memory_mib", "ecc_pending": "ecc_current", "remap_failure": "remap_pending"}
_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def snapshot() -> GpuSnapshot:
    """Every GPU with what this board and driver can tell."""
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


def _name(error: pynvml.NVMLError) -> str:
    return type(error).__name__.removeprefix("NVMLError_")


def _device(handle: Any, index: int) -> GpuDevice:
    errors: dict[str, str] = {}

    def ask(field: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except pynvml.NVMLError as error:
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
        mig=ask("mig", lambda: _mig(handle)),
        pids=ask("pids", lambda: _pids(handle)),
        errors=errors,
    )


def _uncorrected(handle: Any) -> int:
    kind, counter = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    return int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter))


def _temperature(handle: Any) -> int:
    return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _slowdown(handle: Any) -> int:
    return int(pynvml.nvmlDeviceGetTemperatureThreshold(handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))


def _nvlinks(handle: Any) -> tuple[bool, ...]:
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


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _cpu_affinity(handle: Any) -> str:
    words = pynvml.nvmlDeviceGetCpuAffinity(handle, 16)
    return format_cpulist(
        word * 64 + bit for word, bits in enumerate(words) for bit in range(64) if int(bits) >> bit & 1
    )


def _pids(handle: Any) -> tuple[int, ...]:
    running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    return tuple(sorted({process.pid for process in running}))


def _mig(handle: Any) -> Mig:
    current, pending = pynvml.nvmlDeviceGetMigMode(handle)
    profiles = mig_profiles(handle)
    instances = _instances(handle, profiles) if current else ()
    return Mig(bool(current), bool(pending), tuple(profiles), instances)


def mig_profiles(handle: Any) -> list[MigProfile]:
    found = []
    # The driver may know profiles beyond the binding's count; asking past the end is refused, not harmful.
    for index in range(max(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT, 32)):
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, index, version=2)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue
        count = ctypes.c_uint(0)
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, None, ctypes.byref(count))
        places = (pynvml.c_nvmlGpuInstancePlacement_t * max(count.value, 1))()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, info.id, places, ctypes.byref(count))
        chosen = list(places)[: count.value]
        if not chosen:
            continue
        name = info.name.decode() if isinstance(info.name, bytes) else str(info.name)
        found.append(
            MigProfile(
                name.removeprefix("MIG").strip(),
                info.id,
                info.sliceCount,
                info.instanceCount,
                info.memorySizeMB,
                tuple(sorted(place.start for place in chosen)),
                chosen[0].size,
            )
        )
    return found


def instances_of(handle: Any, profile: MigProfile) -> list[Any]:
    array = (pynvml.c_nvmlGpuInstance_t * _INSTANCE_LIMIT)()
    count = ctypes.c_uint(_INSTANCE_LIMIT)
    pynvml.nvmlDeviceGetGpuInstances(handle, profile.id, array, ctypes.byref(count))
    return list(array)[: count.value]


def computes_of(instance: Any) -> list[tuple[Any, ComputeInstance]]:
    found = []
    for index in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, version=2)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue
        array = (pynvml.c_nvmlComputeInstance_t * _INSTANCE_LIMIT)()
        count = ctypes.c_uint(_INSTANCE_LIMIT)
        pynvml.nvmlGpuInstanceGetComputeInstances(instance, info.id, array, ctypes.byref(count))
        for compute in list(array)[: count.value]:
            own = pynvml.nvmlComputeInstanceGetInfo(compute).id
            found.append((compute, ComputeInstance(own, info.id, info.sliceCount)))
    return found


def _instances(handle: Any, profiles: list[MigProfile]) -> tuple[GpuInstance, ...]:
    pids = pids_by_instance(handle)
    found = []
    for profile in profiles:
        for instance in instances_of(handle, profile):
            info = pynvml.nvmlGpuInstanceGetInfo(instance)
            computes = tuple(compute for _, compute in computes_of(instance))
            found.append(
                GpuInstance(
                    info.id,
                    profile.name,
                    info.placement.start,
                    info.placement.size,
                    computes,
                    tuple(sorted(pids.get(info.id, ()))),
                )
            )
    return tuple(sorted(found, key=lambda instance: (instance.start, instance.id)))


def pids_by_instance(handle: Any) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle):
        found.setdefault(getattr(process, "gpuInstanceId", 0xFFFFFFFF), set()).add(process.pid)
    return found
