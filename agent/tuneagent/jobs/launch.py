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


# Rank on this node and number of ranks on it, as launchers set them: torchrun, Open MPI, Slurm, MPICH, PALS, Flux,
# MVAPICH2, jsrun.
RANK_VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("LOCAL_RANK", ("LOCAL_WORLD_SIZE",)),
    ("OMPI_COMM_WORLD_LOCAL_RANK", ("OMPI_COMM_WORLD_LOCAL_SIZE",)),
    ("SLURM_LOCALID", ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE")),
    ("MPI_LOCALRANKID", ("MPI_LOCALNRANKS",)),
    ("PALS_LOCAL_RANKID", ("PALS_LOCAL_SIZE",)),
    ("FLUX_TASK_LOCAL_ID", ("FLUX_JOB_SIZE",)),
    ("MV2_COMM_WORLD_LOCAL_RANK", ("MV2_COMM_WORLD_LOCAL_SIZE",)),
    ("JSM_NAMESPACE_LOCAL_RANK", ("JSM_NAMESPACE_LOCAL_SIZE",)),
)
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_SLURM_STEP = ("SLURM_STEP_ID", "SLURM_STEP_TASKS_PER_NODE")
RANKS = tuple(rank for rank, _ in RANK_VARIABLES)
# Everything that is read of the environment.
VARIABLES = (
    VISIBLE, ORDER, "SLURM_NODEID", "FLUX_JOB_NNODES", *_SLURM_STEP,
    *(name for rank, counts in RANK_VARIABLES for name in (rank, *counts)),
)  # fmt: skip


class Rank(msgspec.Struct, frozen=True):
    """This process among those that a launcher started on the node. One of one where no launcher says."""

    number: int = 0
    count: int = 1


def has_own_cpus(topology: Topology, own: frozenset[int], started_on: frozenset[int] | None, rank: Rank) -> bool:
    """Whether a launcher has bound this rank to CPUs that no other rank of the node has, as far as their number tells.

    Where ranks share what they are bound to, as a socket or the cores of a step, they must still divide it.
    """
    if started_on is None or own == started_on:
        return False
    mine, all_of_them = (len(topology.whole_cores(cpus)) or len(cpus) for cpus in (own, started_on | own))
    return mine * rank.count <= all_of_them


def rank_of(environment: Mapping[str, str | None]) -> Rank:
    """Rank by the first launcher's variables that are set. Raises UsageError for nonsense."""
    for rank_name, count_names in RANK_VARIABLES:
        text = environment.get(rank_name)
        if not text:
            continue
        if not re.match(r"\d{1,6}\Z", text):
            raise UsageError(f"{rank_name}={text!r} is not a number")
        number = int(text)
        if rank_name == "SLURM_LOCALID" and number == 0 and not any(environment.get(name) for name in _SLURM_STEP):
            # A batch script: what Slurm says of tasks is about the steps that it may start.
            return Rank()
        told = next((value for name in count_names if (value := environment.get(name))), "")
        return Rank(number, max(_count(rank_name, told, environment), number + 1))
    return Rank()


def _count(rank_name: str, told: str, environment: Mapping[str, str | None]) -> int:
    """Ranks on this node by what the launcher says of them; 1 where that is not understood."""
    parts = [re.match(r"(\d{1,6})(?:\(x(\d{1,6})\))?\Z", part.strip()) for part in told.split(",")]
    # Slurm writes `8(x3),2`: three nodes of eight and one of two.
    runs = [(int(part.group(1)), int(part.group(2) or 1)) for part in parts if part is not None]
    if len(runs) < len(parts):
        return 1
    if rank_name == "FLUX_TASK_LOCAL_ID":
        # Flux counts the whole job, and spreads its tasks evenly.
        nodes = environment.get("FLUX_JOB_NNODES") or "1"
        return -(-runs[0][0] // max(int(nodes), 1)) if nodes.isdigit() else 1
    node = environment.get("SLURM_NODEID") or "0"
    place = int(node) if node.isdigit() else 0
    for count, repeated in runs:
        if place < repeated:
            return count
        place -= repeated
    return runs[0][0]


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
    given = environment.get(VISIBLE)
    visible = [part.strip() for part in (given or "").split(",") if part.strip()]
    if given is not None and not visible:
        raise UsageError(f"{VISIBLE} is empty: no GPU is visible")
    differ = len({device.name for device in gpus.devices}) > 1
    if (
        differ
        and environment.get(ORDER) != "PCI_BUS_ID"
        and not any(name.startswith(("GPU-", "MIG-")) for name in visible)
    ):
        raise UsageError(f"without {ORDER}=PCI_BUS_ID, CUDA numbers GPUs of several models by their speed")
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
    return keep(topology, gpu, local)


def keep(topology: Topology, gpu: GpuDevice | None, allowed: frozenset[int]) -> Binding:
    """These CPUs as they are, and the memory that is near them."""
    return Binding(allowed, _memory_nodes(topology, allowed), gpu.uuid if gpu else None)


def _memory_nodes(topology: Topology, cpus: frozenset[int]) -> frozenset[int]:
    """Nodes for the memory of these CPUs; for one without memory those with memory that are nearest to it."""
    if len(topology.nodes) < 2:
        return frozenset()
    with_memory = {place: node for place, node in enumerate(topology.nodes) if node.memory_kib != 0}
    found: set[int] = set()
    for place, node in enumerate(topology.nodes):
        if not node.cpu_set & cpus:
            continue
        if place in with_memory:
            found.add(node.id)
        elif node.distances is not None and len(node.distances) == len(topology.nodes) and with_memory:
            nearest = min(node.distances[other] for other in with_memory)
            found.update(one.id for other, one in with_memory.items() if node.distances[other] == nearest)
    return frozenset(found)
