"""Instances of one card brought to a layout, and back where that fails. Runs in the NVML child."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Mapping

import msgspec
import pynvml

from tuneagent.gpu.mig.board import MigLayout, MigProfile, compute_layout
from tuneagent.gpu.mig.read import Handle, computes_of, instances_of, mig_profiles, pids_by_instance


class NvmlWriteFailed(Exception):
    """A setting that NVML refused, with what was restored."""


Place = tuple[str, int]


def apply_mig(handle: Handle, layout: MigLayout) -> None:
    """Set mode and instances as wanted; on a failure, restore what was there and report what is there now."""
    before = _Mig.read(handle)
    wanted = {(one.profile, one.start) for one in layout.instances}
    try:
        _bring_to(handle, layout.enabled, wanted)
    except (pynvml.NVMLError, NvmlWriteFailed) as error:
        problem = _go_back(handle, before)
        raise NvmlWriteFailed(f"{error}; {problem}{_told(handle, before)}") from None


def _bring_to(handle: Handle, enabled: bool, wanted: set[Place]) -> None:
    current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    if current:
        _change_instances(handle, wanted if enabled else set())
    if bool(current) != enabled:
        _set_mode(handle, enabled)
        if enabled and wanted:
            _change_instances(handle, wanted)


class _Mig(msgspec.Struct, frozen=True):
    """Mode, and the compute layout of each instance (None: one compute instance that has all of it)."""

    enabled: bool
    instances: Mapping[Place, str | None]

    @classmethod
    def read(cls, handle: Handle) -> _Mig:
        """As the card reports it now."""
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
        if not current:
            return cls(False, {})
        slices = {profile.name: profile.slices for profile in mig_profiles(handle)}
        placed = _placed(handle, mig_profiles(handle))
        return cls(True, {key: _computes(placed[key], slices[key[0]]) for key in sorted(placed)})

    def __str__(self) -> str:
        if not self.enabled:
            return "MIG is off"
        parts = [
            f"{profile} at {start}" + ("" if computes is None else f" (compute instances: {computes})")
            for (profile, start), computes in self.instances.items()
        ]
        return f"MIG is on with {', '.join(parts) or 'no instance'}"


def _computes(instance: Handle, slices: int) -> str | None:
    return compute_layout(slices, [one.slices for _, one in computes_of(instance)])


def _told(handle: Handle, before: _Mig) -> str:
    """What is there after a failure, read from the card again."""
    try:
        now = _Mig.read(handle)
    except pynvml.NVMLError as error:
        return f"what is there now could not be read: {error}; it was: {before}"
    return f"now {now}" if now == before else f"now {now}; it was: {before}"


def _go_back(handle: Handle, before: _Mig) -> str:
    """Create what a state lacks, remove what is not in it. Returns what failed, as the start of a sentence."""
    problems: list[str] = []

    def attempt(step: Callable[[], None]) -> None:
        try:
            step()
        except (pynvml.NVMLError, NvmlWriteFailed) as error:
            problems.append(str(error))

    try:
        now = _Mig.read(handle)
        if now.enabled and not before.enabled:
            attempt(lambda: _bring_to(handle, False, set()))
        elif before.enabled and not now.enabled:
            attempt(lambda: _set_mode(handle, True))
        if before.enabled:
            _restore_instances(handle, before, attempt)
    except pynvml.NVMLError as error:
        problems.append(str(error))
    return f"going back failed: {'; '.join(dict.fromkeys(problems))}; " if problems else ""


def _restore_instances(handle: Handle, before: _Mig, attempt: Callable[[Callable[[], None]], None]) -> None:
    profiles = {profile.name: profile for profile in mig_profiles(handle)}
    placed = _placed(handle, list(profiles.values()))
    # mypy takes the defaults that bind the loop's names for parameters that a caller must give.
    for key in [key for key in placed if key not in before.instances]:
        attempt(lambda key=key: _destroy(placed[key], profiles[key[0]]))  # type: ignore[misc]
    for key, computes in before.instances.items():
        profile = profiles[key[0]]
        if key not in placed:
            attempt(lambda profile=profile, key=key: _create(handle, profile, key[1]))  # type: ignore[misc]
        elif computes is None and not computes_of(placed[key]):
            attempt(lambda profile=profile, key=key: _create_compute(placed[key], profile))  # type: ignore[misc]


def _set_mode(handle: Handle, enabled: bool) -> None:
    status = pynvml.nvmlDeviceSetMigMode(handle, int(enabled))
    if status != pynvml.NVML_SUCCESS:
        # The call itself succeeds; only this status shows that the mode is pending until a reset, or is held.
        _cancel_mode(handle, enabled)
        raise NvmlWriteFailed(f"MIG mode {'on' if enabled else 'off'}: {pynvml.NVMLError(status)}")
    after, _ = pynvml.nvmlDeviceGetMigMode(handle)
    if bool(after) != enabled:
        _cancel_mode(handle, enabled)
        raise NvmlWriteFailed("MIG mode is pending: the GPU must be reset, which tuneagent does not do")


def _cancel_mode(handle: Handle, enabled: bool) -> None:
    """Revert a mode that is only pending: otherwise a reset for another reason would put it into effect."""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlDeviceSetMigMode(handle, int(not enabled))


def _change_instances(handle: Handle, wanted: set[Place]) -> None:
    """Destroy what is not wanted, create what is missing. Everything that could prevent this is checked first."""
    profiles = {profile.name: profile for profile in mig_profiles(handle)}
    present = _placed(handle, list(profiles.values()))
    extra = [key for key in present if key not in wanted]
    missing = sorted(wanted - set(present), key=lambda key: (-profiles[key[0]].size, key[1]))
    busy = pids_by_instance(handle)
    for key in extra:
        computes = _computes(present[key], profiles[key[0]].slices)
        if computes is not None:
            raise NvmlWriteFailed(
                f"{key[0]} at {key[1]} has compute instances of its own ({computes}); it is left alone"
            )
        holders = busy.get(pynvml.nvmlGpuInstanceGetInfo(present[key]).id)
        if holders:
            raise NvmlWriteFailed(f"{key[0]} at {key[1]} is in use by pid {', '.join(map(str, sorted(holders)))}")
    for key in extra:
        _destroy(present[key], profiles[key[0]])
    for key in missing:
        _create(handle, profiles[key[0]], key[1])
    for key in [key for key in present if key in wanted and not computes_of(present[key])]:
        # Left behind if the process died between the two calls of `_create`.
        _create_compute(present[key], profiles[key[0]])


def _placed(handle: Handle, profiles: list[MigProfile]) -> dict[Place, Handle]:
    return {
        (profile.name, pynvml.nvmlGpuInstanceGetInfo(instance).placement.start): instance
        for profile in profiles
        for instance in instances_of(handle, profile)
    }


def _create(handle: Handle, profile: MigProfile, start: int) -> None:
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, profile.size)
    instance = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile.id, ctypes.byref(place))
    _create_compute(instance, profile)


def _create_compute(instance: Handle, profile: MigProfile) -> None:
    """The compute instance profile with as many slices as the GPU instance takes all of it."""
    for index in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, version=2)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument):
            continue
        if info.sliceCount == profile.slices:
            pynvml.nvmlGpuInstanceCreateComputeInstance(instance, info.id)
            return
    raise NvmlWriteFailed(f"{profile.name}: the driver offers no compute instance of {profile.slices} slices")


def _destroy(instance: Handle, profile: MigProfile) -> None:
    """A GPU instance with the one compute instance that has all of it. Any other is someone's own and is left alone."""
    computes = _computes(instance, profile.slices)
    if computes not in (None, "none"):
        raise NvmlWriteFailed(f"{profile.name}: has compute instances of its own ({computes}); it is left alone")
    for compute, _ in computes_of(instance):
        pynvml.nvmlComputeInstanceDestroy(compute)
    pynvml.nvmlGpuInstanceDestroy(instance)
