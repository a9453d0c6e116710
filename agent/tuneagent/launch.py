"""`tuneagent run`: bind a command to the CPUs and memory of its GPU's NUMA node, then become it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tuneagent.errors import UsageError
from tuneagent.gpu import GpuDevice, GpuFacts, GpuSnapshot
from tuneagent.topology import Topology


@dataclass(frozen=True)
class Binding:
    """Where a command may run: CPUs, and the NUMA nodes of its memory (empty: left alone)."""

    cpus: frozenset[int]
    nodes: frozenset[int]
    gpu: str | None


def choose_gpu(gpus: GpuFacts, wanted: str, environment: Mapping[str, str | None]) -> GpuDevice | None:
    """The GPU meant by `--gpu`: an index, a UUID, or `auto` from what launchers set. None if there is no GPU.

    Raises UsageError for a GPU that is not there.
    """
    if not isinstance(gpus, GpuSnapshot) or not gpus.devices:
        if wanted == "auto":
            return None
        raise UsageError(f"--gpu {wanted}: no GPU can be seen here")
    if wanted != "auto":
        return _find(gpus, wanted)
    visible = [part.strip() for part in (environment.get("CUDA_VISIBLE_DEVICES") or "").split(",") if part.strip()]
    rank_text = environment.get("LOCAL_RANK") or "0"
    if not re.match(r"\d{1,6}\Z", rank_text):
        raise UsageError(f"LOCAL_RANK={rank_text!r} is no number")
    rank = int(rank_text)
    if visible:
        # One device for each rank is what launchers that set the variable per rank leave.
        return _find(gpus, visible[0] if len(visible) == 1 else visible[rank % len(visible)])
    return gpus.devices[rank % len(gpus.devices)]


def _find(gpus: GpuSnapshot, wanted: str) -> GpuDevice:
    for device in gpus.devices:
        if wanted == str(device.index) or (wanted.startswith("GPU-") and device.uuid.startswith(wanted)):
            return device
    known = ", ".join(f"{device.index} ({device.uuid})" for device in gpus.devices)
    raise UsageError(f"--gpu {wanted}: no such GPU; there are {known}")


def bind(topology: Topology, gpu: GpuDevice | None, allowed: frozenset[int], cpus: str) -> Binding:
    """CPUs near the GPU, within those allowed already; with a number for `cpus` that many whole cores of them.

    Only ever narrows. Raises UsageError where too few whole cores are left.
    """
    local = allowed
    device = topology.pci(gpu.pci) if gpu and gpu.pci else None
    near = topology.local_cpus(device) if device else None
    if near and near & allowed:
        local = near & allowed
    if cpus != "local":
        count = int(cpus)
        cores = topology.whole_cores(local) or [frozenset({cpu}) for cpu in sorted(local)]
        if not 1 <= count <= len(cores):
            raise UsageError(f"--cpus {count}: {len(cores)} whole cores are to be had near this GPU")
        local = frozenset().union(*cores[:count])
    nodes = frozenset(node.id for node in topology.nodes if node.cpu_set & local)
    return Binding(local, nodes if len(topology.nodes) > 1 else frozenset(), gpu.uuid if gpu else None)
