"""The child that talks to NVML: one command, one JSON answer on stdout, then it ends.

It and nvml_read alone import pynvml. Calls and structures: nvml.h of driver 580, as bound by nvidia-ml-py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Any

import msgspec
import pynvml

from tuneagent.gpu import MigProfile
from tuneagent.nvml_read import computes_of, instances_of, mig_profiles, pids_by_instance, snapshot

# Folders under the host's root where drivers put the library when the loader does not know it.
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "run/nvidia/driver/usr/lib64",
)


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
    profiles = {profile.name: profile for profile in mig_profiles(handle)}
    present = _placed(handle, list(profiles.values()))
    # An instance without its compute instance is what a death between the two calls leaves: made anew.
    broken = {key for key in present if not computes_of(present[key])}
    extra = [key for key in present if key not in wanted or key in broken]
    missing = sorted(wanted - (set(present) - broken), key=lambda key: (-profiles[key[0]].size, key[1]))
    busy = pids_by_instance(handle)
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
        for instance in instances_of(handle, profile)
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
    for compute, _ in computes_of(instance):
        pynvml.nvmlComputeInstanceDestroy(compute)
    pynvml.nvmlGpuInstanceDestroy(instance)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
