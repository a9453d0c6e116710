"""One picture of a host: CPUs, SMT, L3 groups, NUMA nodes, PCI GPUs, NICs, NVMe. What cannot be known is None."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.formats.cpulist import parse_cpulist


class NumaNode(msgspec.Struct, frozen=True):
    """One NUMA node. `cpus` are online CPUs; `hugepages` maps page size in KiB (as text) to pages."""

    id: Annotated[int, Meta(description="Number of the node.")]
    cpus: Annotated[str, Meta(description="CPUs online, in kernel notation.")]
    memory_kib: Annotated[int | None, Meta(description="Memory, in KiB.")]
    distances: Annotated[tuple[int, ...] | None, Meta(description="Distances to every node.")]
    hugepages: Annotated[dict[str, int], Meta(description="Reserved huge pages by page size in KiB.")]

    @property
    def cpu_set(self) -> frozenset[int]:
        """CPUs as a set."""
        return parse_cpulist(self.cpus)


class PciDevice(msgspec.Struct, frozen=True, rename={"kind": "class"}):
    """A PCI function. `numa_node` is -1 where the firmware does not say (usual in virtual machines)."""

    address: Annotated[str, Meta(description="PCI address.")]
    kind: Annotated[str, Meta(description="PCI class.")]
    vendor: Annotated[str | None, Meta(description="PCI vendor.")]
    device: Annotated[str | None, Meta(description="PCI device.")]
    numa_node: Annotated[
        int | None, Meta(description="NUMA node; -1 where the firmware does not say, as in many virtual machines.")
    ]
    local_cpus: Annotated[str | None, Meta(description="CPUs nearest to it, in kernel notation.")]
    names: Annotated[tuple[str, ...], Meta(description="Names of its interfaces or block devices.")] = ()
    bridges: Annotated[
        tuple[str, ...] | None, Meta(description="PCI bridges above it, the nearest first; null where not known.")
    ] = None


class Topology(msgspec.Struct, frozen=True):
    """The picture. Lists are in kernel notation."""

    arch: Annotated[str | None, Meta(description="Machine architecture.")]
    cpus_online: Annotated[int | None, Meta(description="CPUs online.")]
    cpulist_online: Annotated[str | None, Meta(description="CPUs online, in kernel notation.")]
    cpulist_possible: Annotated[str | None, Meta(description="CPUs that could come online.")]
    packages: Annotated[int | None, Meta(description="Sockets.")]
    cores: Annotated[int | None, Meta(description="Cores.")]
    smt: Annotated[int | None, Meta(description="Threads of a core.")]
    numa_nodes: Annotated[tuple[NumaNode, ...] | None, Meta(description="NUMA nodes.")]
    l3_groups: Annotated[tuple[str, ...] | None, Meta(description="CPUs that share an L3 cache.")]
    pci_gpus: Annotated[tuple[PciDevice, ...] | None, Meta(description="GPUs on the PCI bus.")]
    nics: Annotated[tuple[PciDevice, ...] | None, Meta(description="Network adapters.")]
    nvme: Annotated[tuple[PciDevice, ...] | None, Meta(description="NVMe drives.")]
    nvswitches: Annotated[tuple[PciDevice, ...] | None, Meta(description="NVSwitches.")] = None
    cores_cpus: Annotated[tuple[str, ...] | None, Meta(description="CPUs of each core.")] = None

    @property
    def online(self) -> frozenset[int]:
        """Online CPUs; empty where unknown."""
        return parse_cpulist(self.cpulist_online or "")

    @property
    def nodes(self) -> tuple[NumaNode, ...]:
        """NUMA nodes; empty where unknown."""
        return self.numa_nodes or ()

    def node(self, number: int) -> NumaNode | None:
        """The node of that number."""
        return next((node for node in self.nodes if node.id == number), None)

    def pci(self, address: str) -> PciDevice | None:
        """The GPU, NIC or NVMe drive at a PCI address."""
        wanted = normal_address(address)
        devices = (*(self.pci_gpus or ()), *(self.nics or ()), *(self.nvme or ()))
        return next((device for device in devices if device.address == wanted), None)

    def node_of(self, device: PciDevice) -> int | None:
        """NUMA node of a device: what the firmware says, or the only one; None where it says nothing."""
        if device.numa_node is not None and device.numa_node >= 0:
            return device.numa_node
        return self.nodes[0].id if len(self.nodes) == 1 else None

    def local_cpus(self, device: PciDevice) -> frozenset[int] | None:
        """Online CPUs nearest to a device; None where the host does not say and has several nodes."""
        if device.numa_node is not None and device.numa_node >= 0:
            node = self.node(device.numa_node)
            if node is not None and node.cpu_set:
                return node.cpu_set
        if device.local_cpus:
            return parse_cpulist(device.local_cpus) & self.online
        return self.online if len(self.nodes) <= 1 and self.online else None

    def whole_cores(self, cpus: frozenset[int]) -> list[frozenset[int]]:
        """Cores whose online SMT siblings are all in `cpus`, lowest first."""
        cores = [parse_cpulist(text) for text in self.cores_cpus or ()]
        return sorted((core for core in cores if core and core <= cpus), key=min)


def normal_address(address: str) -> str:
    """`0000:1b:00.0` for any spelling, NVML's eight-digit domain among them."""
    domain, _, rest = address.lower().partition(":")
    if rest.count(":") != 1:
        return "0000:" + address.lower()
    return f"{int(domain, 16):04x}:{rest}"
