"""The topology drawn in the terminal: NUMA nodes with distances, L3 groups of cores, devices with their interrupts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tuneagent.formats.cpulist import parse_cpulist
from tuneagent.host.terminal import width
from tuneagent.report.lines import counted
from tuneagent.topology.paths import TopologyWithPaths
from tuneagent.topology.picture import NumaNode, PciDevice, Topology

# More cores than this are shown as a list, not drawn one by one.
_DRAWN_CORES = 64


def topology_text(topology: Topology, interrupts: Mapping[str, str] | None = None) -> str:
    """Nodes with what belongs to them, then what belongs to none. `interrupts` maps a PCI address to words."""
    told = interrupts or {}
    head = [
        f"{topology.arch or '?'}  CPUs {topology.cpulist_online or '?'} online of {topology.cpulist_possible or '?'}",
        f"{counted(topology.packages, 'package')}, {counted(topology.cores, 'core')}, SMT {topology.smt or '?'}",
        *_distances(topology),
    ]
    devices = [
        *(("GPU", device) for device in topology.pci_gpus or ()),
        *(("NVSwitch", device) for device in topology.nvswitches or ()),
        *(("NIC", device) for device in topology.nics or ()),
        *(("NVMe", device) for device in topology.nvme or ()),
    ]
    blocks = ["\n".join(head)]
    for node in topology.nodes:
        own = [pair for pair in devices if topology.node_of(pair[1]) == node.id]
        blocks.append("\n".join([*_node(topology, node), *_devices(own, told)]))
    known = {node.id for node in topology.nodes}
    rest = [pair for pair in devices if topology.node_of(pair[1]) not in known]
    if rest:
        blocks.append("\n".join(["no node named by the firmware", *_devices(rest, told)]))
    if isinstance(topology, TopologyWithPaths) and topology.paths:
        blocks.append("\n".join(_ways(topology)))
    return "\n\n".join(blocks)


_WAYS = (
    "NV#: # NVLinks; PIX: at most one PCI bridge or switch; PXB: several; PHB: host bridge; NODE: across host bridges; "
    "SYS: across NUMA nodes; ?: not known"
)


def _ways(topology: TopologyWithPaths) -> list[str]:
    """A row for each other device, a column for each GPU: as narrow as there are GPUs."""
    gpus = [device.address for device in topology.pci_gpus or ()]
    told = {frozenset((path.one, path.other)): path.told for path in topology.paths}
    others = [*(topology.nics or ()), *(topology.nvme or ())]
    heads = {address: f"GPU{number} {address}" for number, address in enumerate(gpus)}
    heads |= {device.address: " ".join((device.address, *device.names[:1])) for device in others}
    room = max(map(len, heads.values()))
    lines = [f"{'paths':{room}}  " + " ".join(f"{f'GPU{number}':>4}" for number in range(len(gpus)))]
    for address in heads:
        cells = ["X" if address == gpu else told.get(frozenset((gpu, address)), "?") for gpu in gpus]
        lines.append(f"{heads[address]:{room}}  " + " ".join(f"{cell:>4}" for cell in cells))
    return [*lines, *textwrap.wrap(_WAYS, width())]


def _distances(topology: Topology) -> list[str]:
    """The table of distances, where there is more than one node."""
    nodes = topology.nodes
    if not 1 < len(nodes) <= 16 or any(node.distances is None for node in nodes):
        return []
    lines = ["distances  " + " ".join(f"{node.id:>4}" for node in nodes)]
    return lines + [f"{node.id:>9}  " + " ".join(f"{far:>4}" for far in node.distances or ()) for node in nodes]


def _node(topology: Topology, node: NumaNode) -> list[str]:
    memory = "?" if node.memory_kib is None else f"{node.memory_kib / 1048576:.1f} GiB"
    pools = ", ".join(f"{pages} x {int(kib) // 1024} MiB" for kib, pages in node.hugepages.items() if pages)
    lines = [f"node {node.id}  CPUs {node.cpus or 'none'}  memory {memory}{f'  huge pages {pools}' if pools else ''}"]
    cores = topology.whole_cores(node.cpu_set)
    if not cores or len(cores) > _DRAWN_CORES:
        return lines
    groups = [parse_cpulist(text) for text in topology.l3_groups or ()]
    seen: dict[frozenset[int], list[str]] = {}
    for core in cores:
        group = next((group for group in groups if core & group), frozenset())
        seen.setdefault(group, []).append("[" + " ".join(str(cpu) for cpu in sorted(core)) + "]")
    for group, drawn in seen.items():
        name = "cores of an L3" if group else "cores"
        lines += textwrap.wrap(
            " ".join(drawn), width(), initial_indent=f"|- {name} ", subsequent_indent="|  ",
            break_on_hyphens=False,
        )  # fmt: skip
    return lines


def _devices(devices: list[tuple[str, PciDevice]], interrupts: Mapping[str, str]) -> list[str]:
    lines = []
    for kind, device in devices:
        name = f" ({', '.join(device.names)})" if device.names else ""
        near = f", near CPUs {device.local_cpus}" if device.local_cpus and (device.numa_node or 0) < 0 else ""
        told = f", {interrupts[device.address]}" if device.address in interrupts else ""
        lines.append(f"|- {kind} {device.address} {device.vendor or '?'}:{device.device or '?'}{name}{near}{told}")
    return lines
