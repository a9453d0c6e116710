"""The child that talks to NVML: one command, one JSON answer on stdout, then it ends.

The only module that imports pynvml. Calls and structures: nvml.h of driver 580, as bound by nvidia-ml-py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pynvml

from tuneagent.cpulist import format_cpulist
from tuneagent.gpu import ComputeInstance, GpuDevice, GpuInstance, GpuSnapshot, Mig, MigProfile
from tuneagent.topology import normal_address

# Folders under the host's root where drivers put the library when the loader does not know it.
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "run/nvidia/driver/usr/lib64",
)
_INSTANCE_LIMIT = 16


class NvmlWriteFailed(Exception):
    """A setting that NVML refused, with what was restored."""


def main(arguments: list[str]) -> int:
    """Run one command and print the answer."""
    answer: dict[str, Any]
    try:
        _open_library()
    except pynvml.NVMLError as error:
        known = isinstance(error, (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded))
        answer = {"absent": f"no NVIDIA driver ({error})"} if known else {"error": f"NVML: {error}"}
        sys.stdout.buffer.write(msgspec.json.encode(answer))
        return 0
    try:
        answer = _command(arguments)
    except (pynvml.NVMLError, NvmlWriteFailed) as error:
        answer = {"error": f"NVML {arguments[0]}: {error}"}
    finally:
        pynvml.nvmlShutdown()
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _open_library() -> None:
    try:
        pynvml.nvmlInit()
        return
    except pynvml.NVMLError_LibraryNotFound:
        root = os.environ.get("TUNEAGENT_NVML_ROOT", "/")
        for folder in _LIBRARY_FOLDERS:
            path = os.path.join(root, folder, "libnvidia-ml.so.1")
            if os.path.exists(path):
                pynvml.nvmlLib = ctypes.CDLL(path)
                pynvml.nvmlInit()
                return
        raise


def _command(arguments: list[str]) -> dict[str, Any]:
    name = arguments[0]
    if name == "snapshot":
        return {"snapshot": snapshot()}
    device = pynvml.nvmlDeviceGetHandleByUUID(arguments[1].encode())
    if name == "persistence":
        pynvml.nvmlDeviceSetPersistenceMode(device, int(arguments[2]))
    elif name == "power-limit":
        pynvml.nvmlDeviceSetPowerManagementLimit(device, round(float(arguments[2]) * 1000))
    elif name == "mig":
        _apply_mig(device, msgspec.json.decode(arguments[2]))
    else:
        raise NvmlWriteFailed(f"unknown command {name}")
    return {}


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
    pci = ask("pci", lambda: pynvml.nvmlDeviceGetPciInfo(handle))
    return GpuDevice(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        name=ask("name", lambda: pynvml.nvmlDeviceGetName(handle)),
        pci=normal_address(pci.busId) if pci else None,
        vbios=ask("vbios", lambda: pynvml.nvmlDeviceGetVbiosVersion(handle)),
        memory_mib=memory.total // (1 << 20) if memory else None,
        persistence=None if persistence is None else bool(persistence),
        power_limit_w=_watts(ask("power_limit_w", lambda: pynvml.nvmlDeviceGetPowerManagementLimit(handle))),
        power_min_w=_watts(limits[0] if limits else None),
        power_max_w=_watts(limits[1] if limits else None),
        power_default_w=_watts(ask("power_default_w", lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))),
        pcie_width=ask("pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
        pcie_max_width=ask("pcie_max_width", lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        cpu_affinity=ask("cpu_affinity", lambda: _cpu_affinity(handle)),
        mig=ask("mig", lambda: _mig(handle)),
        pids=ask("pids", lambda: _pids(handle)),
        errors=errors,
    )


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
    profiles = _profiles(handle)
    instances = _instances(handle, profiles) if current else ()
    return Mig(bool(current), bool(pending), tuple(profiles), instances)


def _profiles(handle: Any) -> list[MigProfile]:
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


def _handles(handle: Any, profile: MigProfile) -> list[Any]:
    array = (pynvml.c_nvmlGpuInstance_t * _INSTANCE_LIMIT)()
    count = ctypes.c_uint(_INSTANCE_LIMIT)
    pynvml.nvmlDeviceGetGpuInstances(handle, profile.id, array, ctypes.byref(count))
    return list(array)[: count.value]


def _compute_handles(instance: Any) -> list[tuple[Any, ComputeInstance]]:
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
            found.append((compute, ComputeInstance(pynvml.nvmlComputeInstanceGetInfo(compute).id, info.id)))
    return found


def _instances(handle: Any, profiles: list[MigProfile]) -> tuple[GpuInstance, ...]:
    pids = _pids_by_instance(handle)
    found = []
    for profile in profiles:
        for instance in _handles(handle, profile):
            info = pynvml.nvmlGpuInstanceGetInfo(instance)
            computes = tuple(compute for _, compute in _compute_handles(instance))
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


def _pids_by_instance(handle: Any) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle):
        found.setdefault(getattr(process, "gpuInstanceId", 0xFFFFFFFF), set()).add(process.pid)
    return found


def _apply_mig(handle: Any, layout: dict[str, Any]) -> None:
    """Mode first, then instances; on a failure the instances made here go and those removed come back."""
    wanted_on = bool(layout["enabled"])
    current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    wanted = {(item["profile"], item["start"]) for item in layout.get("instances", ())}
    if current and (not wanted_on or wanted):
        _change_instances(handle, wanted if wanted_on else set())
    if bool(current) != wanted_on:
        _set_mode(handle, wanted_on)
        if wanted_on and wanted:
            try:
                _change_instances(handle, wanted)
            except (NvmlWriteFailed, pynvml.NVMLError):
                _set_mode(handle, False)
                raise
    elif current and wanted_on and not wanted:
        _change_instances(handle, wanted)


def _set_mode(handle: Any, enabled: bool) -> None:
    status = pynvml.nvmlDeviceSetMigMode(handle, int(enabled))
    if status != pynvml.NVML_SUCCESS:
        # The call itself succeeds; only this status tells that the mode waits for a reset or is held.
        _cancel_mode(handle, enabled)
        raise NvmlWriteFailed(f"MIG mode {'on' if enabled else 'off'}: {pynvml.NVMLError(status)}")
    after, _ = pynvml.nvmlDeviceGetMigMode(handle)
    if bool(after) != enabled:
        _cancel_mode(handle, enabled)
        raise NvmlWriteFailed("MIG mode is pending: the GPU must be reset, which tuneagent does not do")


def _cancel_mode(handle: Any, enabled: bool) -> None:
    """Take a mode back that only waits: else a reset for another reason would bring it about."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlDeviceSetMigMode(handle, int(not enabled))


def _change_instances(handle: Any, wanted: set[tuple[str, int]]) -> None:
    profiles = {profile.name: profile for profile in _profiles(handle)}
    present = _placed(handle, list(profiles.values()))
    # An instance without its compute instance is what a death between the two calls leaves: made anew.
    broken = {key for key in present if not _compute_handles(present[key])}
    extra = [key for key in present if key not in wanted or key in broken]
    missing = sorted(wanted - (set(present) - broken), key=lambda key: (-profiles[key[0]].size, key[1]))
    busy = _pids_by_instance(handle)
    for key in extra:
        holders = busy.get(pynvml.nvmlGpuInstanceGetInfo(present[key]).id)
        if holders:
            raise NvmlWriteFailed(f"{key[0]} at {key[1]} is in use by pid {', '.join(map(str, sorted(holders)))}")
    made: list[tuple[str, int]] = []
    removed: list[tuple[str, int]] = []
    try:
        for key in extra:
            _destroy(present[key])
            removed.append(key)
        for key in missing:
            made.append(key)
            _create(handle, profiles[key[0]], key[1])
    except (pynvml.NVMLError, NvmlWriteFailed) as error:
        now = _placed(handle, list(profiles.values()))
        for key in made:
            if key in now:
                _destroy(now[key])
        for key in removed:
            _create(handle, profiles[key[0]], key[1])
        raise NvmlWriteFailed(
            f"{error}; {len(made)} of {len(missing)} instances were tried, the layout before is restored"
        ) from None


def _placed(handle: Any, profiles: list[MigProfile]) -> dict[tuple[str, int], Any]:
    return {
        (profile.name, pynvml.nvmlGpuInstanceGetInfo(instance).placement.start): instance
        for profile in profiles
        for instance in _handles(handle, profile)
    }


def _create(handle: Any, profile: MigProfile, start: int) -> None:
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, profile.size)
    instance = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile.id, ctypes.byref(place))
    # The compute instance profile with as many slices as the GPU instance takes all of it.
    for index in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, version=2)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue
        if info.sliceCount == profile.slices:
            pynvml.nvmlGpuInstanceCreateComputeInstance(instance, info.id)
            return
    raise NvmlWriteFailed(f"{profile.name}: the driver offers no compute instance of {profile.slices} slices")


def _destroy(instance: Any) -> None:
    for compute, _ in _compute_handles(instance):
        pynvml.nvmlComputeInstanceDestroy(compute)
    pynvml.nvmlGpuInstanceDestroy(instance)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
