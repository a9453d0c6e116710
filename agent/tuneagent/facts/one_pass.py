"""What one pass knows of the host: each answer is read once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tuneagent.gpu.ask import read_gpus
from tuneagent.gpu.snapshot import GpuFacts
from tuneagent.host.machine import Host
from tuneagent.topology.picture import Topology
from tuneagent.topology.read import read_topology

T = TypeVar("T")


class Facts:
    """What one pass knows of the host. Topology and GPUs are read at most once, and only if asked for."""

    def __init__(self, host: Host) -> None:
        self.host = host
        # Typed specs of the profile under way: what one setting is may follow from another, as masks from the CPU plan.
        self.specs: Mapping[str, Any] = {}
        self._once: dict[str, Any] = {}

    def once(self, name: str, read: Callable[[], T]) -> T:
        """What `read` gives, read at most once in this pass however many subjects need it. Failures are not kept."""
        if name not in self._once:
            self._once[name] = read()
        found: T = self._once[name]
        return found

    @functools.cached_property
    def topology(self) -> Topology:
        """CPUs, NUMA nodes and PCI devices."""
        return read_topology(self.host)

    @functools.cached_property
    def gpus(self) -> GpuFacts:
        """GPUs by NVML."""
        return read_gpus(self.host)

    @functools.cached_property
    def boot_id(self) -> str:
        """Identity of this boot; empty where unknown."""
        return self.host.files.read_or("proc/sys/kernel/random/boot_id", "")
