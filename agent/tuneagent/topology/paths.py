"""How far PCI devices are from each other, in the words of `nvidia-smi topo -m`. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.topology.picture import PciDevice, Topology

# At most one PCI bridge or switch; several; the host bridge; another host bridge of the node; another node.
Way = Literal["PIX", "PXB", "PHB", "NODE", "SYS"]


class PciPath(msgspec.Struct, frozen=True):
    """The way between a GPU and another device."""

    one: Annotated[str, Meta(description="PCI address of a GPU.")]
    other: Annotated[str, Meta(description="PCI address of another GPU, a NIC or an NVMe drive.")]
    way: Annotated[
        Way | None,
        Meta(
            description="PIX: at most one PCI bridge or switch; PXB: several; PHB: the host bridge; NODE: between host "
            "bridges of a NUMA node; SYS: between NUMA nodes. Null if not known."
        ),
    ]
    nvlinks: Annotated[int | None, Meta(description="NVLinks between two GPUs; null where they are not known.")] = None

    @property
    def told(self) -> str:
        """As `nvidia-smi topo -m` says it: NVLinks before the way over PCI."""
        return f"NV{self.nvlinks}" if self.nvlinks else self.way or "?"


class TopologyWithPaths(Topology, frozen=True):
    """CPUs, NUMA nodes and devices, with the paths between devices."""

    paths: Annotated[
        tuple[PciPath, ...], Meta(description="Paths from each GPU to later GPUs, NICs and NVMe drives.")
    ] = ()


def way_between(topology: Topology, one: PciDevice, other: PciDevice) -> Way | None:
    """The way over PCI between two devices; None where the host does not say."""
    if one.bridges is None or other.bridges is None:
        return None
    shared = [bridge for bridge in one.bridges if bridge in other.bridges]
    if shared:
        steps = max(one.bridges.index(shared[0]), other.bridges.index(shared[0]))
        # A switch is one bridge upstream and one for each device below it.
        return "PIX" if steps <= 1 else "PXB"
    if _root_bus(one) == _root_bus(other):
        return "PHB"
    nodes = [topology.node_of(device) for device in (one, other)]
    if None in nodes:
        return None
    return "NODE" if nodes[0] == nodes[1] else "SYS"


def paths(topology: Topology, nvlinks: dict[frozenset[str], int] | None = None) -> tuple[PciPath, ...]:
    """Paths from each GPU to later GPUs, NICs and NVMe drives."""
    gpus = topology.pci_gpus or ()
    found = []
    for place, gpu in enumerate(gpus):
        for other in (*gpus[place + 1 :], *(topology.nics or ()), *(topology.nvme or ())):
            pair = frozenset((gpu.address, other.address))
            links = nvlinks.get(pair) if nvlinks is not None and other in gpus else None
            found.append(PciPath(gpu.address, other.address, way_between(topology, gpu, other), links))
    return tuple(found)


def _root_bus(device: PciDevice) -> str:
    """Domain and bus that the host bridge makes: `0000:16`."""
    return ((device.bridges or ())[-1:] or (device.address,))[0].rpartition(":")[0]
