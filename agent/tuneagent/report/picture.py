"""The topology as text: each NUMA node with its CPUs, memory and devices."""

from __future__ import annotations

from tuneagent.topology import NumaNode, PciDevice, Topology


def topology_text(topology: Topology) -> str:
    """Nodes with what belongs to them, then what belongs to none."""
    head = [
        f"{topology.arch or '?'}  CPUs {topology.cpulist_online or '?'} online of {topology.cpulist_possible or '?'}",
        f"{_count(topology.packages, 'package')}, {_count(topology.cores, 'core')}, SMT {topology.smt or '?'}",
    ]
    if topology.l3_groups:
        head.append("L3 shared by " + "  ".join(topology.l3_groups))
    devices = [
        *(("GPU", device) for device in topology.pci_gpus or ()),
        *(("NIC", device) for device in topology.nics or ()),
        *(("NVMe", device) for device in topology.nvme or ()),
    ]
    lines = ["\n".join(head)]
    for node in topology.nodes:
        lines.append(_node(node, [pair for pair in devices if pair[1].numa_node == node.id]))
    known = {node.id for node in topology.nodes}
    rest = [pair for pair in devices if pair[1].numa_node not in known]
    if rest:
        lines.append("\n".join(["no node named by the firmware", *(_device(kind, device) for kind, device in rest)]))
    return "\n\n".join(lines)


def _count(number: int | None, word: str) -> str:
    return f"{number if number is not None else '?'} {word}{'' if number == 1 else 's'}"


def _node(node: NumaNode, devices: list[tuple[str, PciDevice]]) -> str:
    memory = "?" if node.memory_kib is None else f"{node.memory_kib / 1048576:.1f} GiB"
    distances = " ".join(map(str, node.distances or ())) or "?"
    pools = ", ".join(f"{pages} x {int(kib) // 1024} MiB" for kib, pages in node.hugepages.items() if pages)
    lines = [f"node {node.id}", f"  CPUs {node.cpus or 'none'}", f"  memory {memory}, distances {distances}"]
    lines += [f"  huge pages {pools}"] if pools else []
    return "\n".join([*lines, *(_device(kind, device) for kind, device in devices)])


def _device(kind: str, device: PciDevice) -> str:
    name = f" ({', '.join(device.names)})" if device.names else ""
    near = f", near CPUs {device.local_cpus}" if device.local_cpus else ""
    return f"  {kind} {device.address} {device.vendor or '?'}:{device.device or '?'}{name}{near}"
