"""One picture of a host: CPUs, SMT, L3 groups, NUMA nodes, PCI GPUs, NICs, NVMe. What cannot be known is None."""

from __future__ import annotations

import msgspec

from tuneagent.formats.cpulist import parse_cpulist


class NumaNode(msgspec.Struct, frozen=True):
    """One NUMA node. `cpus` are online CPUs; `hugepages` is page size in KiB (as text) to pages."""

    id: int
    cpus: str
    memory_kib: int | None
    distances: tuple[int, ...] | None
    hugepages: dict[str, int]

    @property
    def cpu_set(self) -> frozenset[int]:
        """CPUs as a set."""
        return parse_cpulist(self.cpus)


class PciDevice(msgspec.Struct, frozen=True, rename={"kind": "class"}):
    """A PCI function. `numa_node` is -1 where the firmware does not say (usual in virtual machines)."""

    address: str
    kind: str
    vendor: str | None
    device: str | None
    numa_node: int | None
    local_cpus: str | None
    names: tuple[str, ...] = ()


class Topology(msgspec.Struct, frozen=True):
    """The picture. Lists are in kernel notation."""

    arch: str | None
    cpus_online: int | None
    cpulist_online: str | None
    cpulist_possible: str | None
    packages: int | None
    cores: int | None
    smt: int | None
    numa_nodes: tuple[NumaNode, ...] | None
    l3_groups: tuple[str, ...] | None
    pci_gpus: tuple[PciDevice, ...] | None
    nics: tuple[PciDevice, ...] | None
    nvme: tuple[PciDevice, ...] | None
    nvswitches: tuple[PciDevice, ...] | None = None
    cores_cpus: tuple[str, ...] | None = None

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
