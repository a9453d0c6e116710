"""What one pass knows of the host: each file and each answer of NVML is read once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from tuneagent.facts.files_once import FilesOnce
from tuneagent.gpu.ask import read_gpus
from tuneagent.gpu.snapshot import GpuFacts
from tuneagent.host.machine import Host
from tuneagent.topology.picture import Topology
from tuneagent.topology.read import read_topology

T = TypeVar("T")


class Facts:
    """What one pass knows of the host. Topology and GPUs are read only if asked for.

    `specs` are the typed specs of the profile: one setting may depend on another, as masks depend on the CPU plan.
    """

    def __init__(self, host: Host, specs: Mapping[str, object] | None = None) -> None:
        self._files = FilesOnce(host.files)
        self._given = host
        self.host = msgspec.structs.replace(host, files=self._files)
        self.specs: Mapping[str, object] = specs or {}
        self._once: dict[str, object] = {}

    def again(self) -> Facts:
        """A new pass over the same host, in case something has changed: everything is read again."""
        self.close()
        return Facts(self._given, self.specs)

    def close(self) -> None:
        """Close what the pass holds open; what it knows stays."""
        self._files.close()

    def order(self, argv: Sequence[str], timeout_s: float = 30.0) -> None:
        """Run a program that changes something; what was read before is forgotten. Raises WriteFailed."""
        self._files.forget()
        self.host.order(argv, timeout_s)

    def once(self, name: str, read: Callable[[], T]) -> T:
        """What `read` gives, read at most once in this pass however many subjects need it. Failures are not kept."""
        if name not in self._once:
            self._once[name] = read()
        return cast("T", self._once[name])

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
