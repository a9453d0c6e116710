"""What a card offers for MIG and what is on it: profiles, placements, instances."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


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


class Placed(msgspec.Struct, frozen=True):
    """A GPU instance that is wanted: its profile, and the memory slice where it starts."""

    profile: str
    start: int


class MigLayout(msgspec.Struct, frozen=True):
    """A card's mode, and the instances on it."""

    enabled: bool
    instances: tuple[Placed, ...] = ()


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
