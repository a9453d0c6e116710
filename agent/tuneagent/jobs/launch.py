"""`tuneagent run`: bind a command to the CPUs and memory of its GPU's NUMA node, then become it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from tuneagent.errors import UsageError
from tuneagent.gpu.snapshot import GpuDevice, GpuFacts, GpuSnapshot
from tuneagent.topology.picture import Topology


class Binding(msgspec.Struct, frozen=True):
    """Where a command may run: CPUs, and the NUMA nodes of its memory (empty: left alone)."""

    cpus: frozenset[int]
    nodes: frozenset[int]
    gpu: str | None


# Rank on this node and number of ranks on it, as launchers set them: torchrun, Open MPI, Slurm, MPICH, PALS.
RANK_VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("LOCAL_RANK", ("LOCAL_WORLD_SIZE",)),
    ("OMPI_COMM_WORLD_LOCAL_RANK", ("OMPI_COMM_WORLD_LOCAL_SIZE",)),
    ("SLURM_LOCALID", ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE")),
    ("MPI_LOCALRANKID", ("MPI_LOCALNRANKS",)),
    ("PALS_LOCAL_RANKID", ("PALS_LOCAL_SIZE",)),
)
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Rank(msgspec.Struct, frozen=True):
    """This process among those that a launcher started on the node. One of one where no launcher says."""

    number: int = 0
    count: int = 1


def rank_of(environment: Mapping[str, str | None]) -> Rank:
    """Rank by the first launcher's variables that are set. Raises UsageError for nonsense."""
    for rank_name, count_names in RANK_VARIABLES:
        text = environment.get(rank_name)
        if not text:
            continue
        if not re.match(r"\d{1,6}\Z", text):
            raise UsageError(f"{rank_name}={text!r} is not a number")
        told = next((value for name in count_names if (value := environment.get(name))), "")
        # Slurm writes `8(x2)` for two nodes of eight.
        count = re.match(r"(\d{1,6})(\(|\Z)", told)
        number = int(text)
        return Rank(number, max(int(count.group(1)) if count else 1, number + 1))
    return Rank()


def choose_gpu(gpus: GpuFacts, wanted: str, environment: Mapping[str, str | None]) -> GpuDevice | None:
    """The GPU meant by `--gpu`: an index, a UUID, or `auto` from what launchers set. None if there is no GPU.

    Raises UsageError for a GPU that is not there.
    """
    if not isinstance(gpus, GpuSnapshot) or not gpus.devices:
        if wanted == "auto":
            return None
        raise UsageError(f"--gpu {wanted}: no GPU is visible here")
    if wanted != "auto":
        return _find(gpus, wanted)
    try:
        return _of_rank(gpus, rank_of(environment).number, environment)
    except UsageError:
        # A MIG device by its own UUID, or a name for no device: the job starts all the same, on the CPUs it has.
        return None


def _of_rank(gpus: GpuSnapshot, number: int, environment: Mapping[str, str | None]) -> GpuDevice:
    visible = [part.strip() for part in (environment.get(VISIBLE) or "").split(",") if part.strip()]
    if visible:
        # Launchers that set the variable per rank leave one device for each rank.
        return _find(gpus, visible[0] if len(visible) == 1 else visible[number % len(visible)])
    return gpus.devices[number % len(gpus.devices)]


def _find(gpus: GpuSnapshot, wanted: str) -> GpuDevice:
    # `MIG-GPU-<uuid>/gi/ci` is the older name of a MIG device; it contains the UUID of its GPU.
    name = wanted.removeprefix("MIG-") if wanted.startswith("MIG-GPU-") else wanted
    for device in gpus.devices:
        if name == str(device.index) or (name.startswith("GPU-") and device.uuid.startswith(name.partition("/")[0])):
            return device
    known = ", ".join(f"{device.index} ({device.uuid})" for device in gpus.devices)
    raise UsageError(f"--gpu {wanted}: no such GPU; there are {known}")


def share_of(
    topology: Topology, gpus: GpuFacts, gpu: GpuDevice | None, rank: Rank, environment: Mapping[str, str | None]
) -> tuple[int, int]:
    """Place of this rank among those whose GPUs are near the same CPUs, and how many these are.

    Where each rank sees only one GPU, those of the others are assumed to be in the order of the ranks.
    """
    if rank.count <= 1 or gpu is None or not isinstance(gpus, GpuSnapshot):
        return rank.number, rank.count
    single = len([part for part in (environment.get(VISIBLE) or "").split(",") if part.strip()]) == 1
    others = {} if single else environment
    near = _near(topology, gpu)
    mates = [
        number
        for number in range(rank.count)
        if number == rank.number or _near(topology, _of_rank(gpus, number, others)) == near
    ]
    return mates.index(rank.number), len(mates)


def _near(topology: Topology, gpu: GpuDevice | None) -> frozenset[int] | None:
    device = topology.pci(gpu.pci) if gpu and gpu.pci else None
    return topology.local_cpus(device) if device else None


def bind(
    topology: Topology, gpu: GpuDevice | None, allowed: frozenset[int], cpus: str, share: tuple[int, int] = (0, 1)
) -> Binding:
    """CPUs near the GPU, within those allowed already; with a number for `cpus` that many whole cores of them.

    Ranks that share a node get disjoint whole cores: `share` is the place among them and their number. Only ever
    narrows. Raises UsageError where too few whole cores are left.
    """
    local = allowed
    near = _near(topology, gpu)
    if near and near & allowed:
        local = near & allowed
    place, count = share
    cores = topology.whole_cores(local) or [frozenset({cpu}) for cpu in sorted(local)]
    part = len(cores) // count
    if count > 1 and part == 0:
        raise UsageError(f"{count} ranks share {len(cores)} whole cores near this GPU: start fewer, or use --cpus")
    own = cores[place * part : (place + 1) * part] if count > 1 else cores
    if cpus != "local":
        wanted = int(cpus)
        if not 1 <= wanted <= len(own):
            raise UsageError(f"--cpus {wanted}: only {len(own)} whole cores are available")
        own = own[:wanted]
    if count > 1 or cpus != "local":
        local = frozenset().union(*own)
    nodes = frozenset(node.id for node in topology.nodes if node.cpu_set & local)
    return Binding(local, nodes if len(topology.nodes) > 1 else frozenset(), gpu.uuid if gpu else None)
