"""MIG as the card has it now: profiles, instances, who runs in them. Runs in the NVML child."""

from __future__ import annotations

import ctypes
from typing import Any

import pynvml

from tuneagent.gpu.mig.board import ComputeInstance, GpuInstance, Mig, MigProfile

# A GPU or an instance of one, as pynvml hands it out: a pointer of ctypes without a type of its own.
Handle = Any
_INSTANCE_LIMIT = 16


def mig_of(handle: Handle) -> Mig:
    current, pending = pynvml.nvmlDeviceGetMigMode(handle)
    profiles = mig_profiles(handle)
    instances = _instances(handle, profiles) if current else ()
    return Mig(bool(current), bool(pending), tuple(profiles), instances)


def mig_profiles(handle: Handle) -> list[MigProfile]:
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


def instances_of(handle: Handle, profile: MigProfile) -> list[Handle]:
    array = (pynvml.c_nvmlGpuInstance_t * _INSTANCE_LIMIT)()
    count = ctypes.c_uint(_INSTANCE_LIMIT)
    pynvml.nvmlDeviceGetGpuInstances(handle, profile.id, array, ctypes.byref(count))
    return list(array)[: count.value]


def computes_of(instance: Handle) -> list[tuple[Handle, ComputeInstance]]:
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


def _instances(handle: Handle, profiles: list[MigProfile]) -> tuple[GpuInstance, ...]:
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


def pids_by_instance(handle: Handle) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle):
        found.setdefault(getattr(process, "gpuInstanceId", 0xFFFFFFFF), set()).add(process.pid)
    return found
