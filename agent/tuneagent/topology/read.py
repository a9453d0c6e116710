"""Reads the picture of a host from sysfs under its root, never from the running machine by a library.

What cannot be known is None, so that nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist, parse_cpumask
from tuneagent.formats.meminfo import total_kib
from tuneagent.host.machine import Host
from tuneagent.host.processes import machine
from tuneagent.topology.picture import NumaNode, PciDevice, Topology

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"
_PCI = "sys/bus/pci/devices"
DEVICE_LIMIT = 8192


def _read(host: Host, path: str) -> str | None:
    try:
        text = host.files.read(path).replace("\0", "").strip()
    except (PathMissing, ReadFailed):
        return None
    return text


def _cpulist(host: Host, path: str) -> frozenset[int] | None:
    text = _read(host, path)
    if text is None:
        return None
    try:
        return parse_cpulist(text)
    except ValueError:
        return None


def _cpus(host: Host, listed: str, mask: str) -> frozenset[int] | None:
    """CPUs that the kernel gives as a list, or, where it is older, as a mask alone."""
    found = _cpulist(host, listed)
    if found:
        return found
    text = _read(host, mask)
    try:
        return parse_cpumask(text) if text else found
    except ValueError:
        return found


def _integer(text: str | None) -> int | None:
    try:
        return int(text, 0) if text else None
    except ValueError:
        return None


def _names(host: Host, path: str) -> list[str]:
    try:
        return host.files.names(path)
    except ReadFailed:
        return []


def _numbered(host: Host, path: str, prefix: str) -> list[int]:
    pattern = re.compile(rf"{prefix}(\d+)\Z")
    return sorted(int(match.group(1)) for name in _names(host, path) if (match := pattern.match(name)))


def _online_cpus(host: Host) -> frozenset[int] | None:
    listed = _cpulist(host, f"{_CPU}/online")
    if listed is not None:
        return listed
    # Kernels before 2.6.26 have no such list; a CPU without an `online` file cannot be switched off.
    numbers = _numbered(host, _CPU, "cpu")
    counted = len(re.findall(r"^processor\s*:", _read(host, "proc/cpuinfo") or "", re.MULTILINE))
    if not numbers or counted > len(numbers):
        # Fewer folders than the kernel counts CPUs: which ones are missing cannot be determined.
        return None
    return frozenset(
        number
        for number in numbers
        if _read(host, f"{_CPU}/cpu{number}/online") in (None, "1")
        and (len(numbers) == 1 or host.files.is_dir(f"{_CPU}/cpu{number}/topology"))
    ) or frozenset(numbers)


def _siblings(host: Host, cpu: int, *names: str) -> frozenset[int] | None:
    for name in names:
        base = f"{_CPU}/cpu{cpu}/topology/{name}"
        found = _cpus(host, f"{base}_list", base)
        if found:
            return found
    return None


def _shape(host: Host, online: frozenset[int]) -> tuple[int | None, tuple[str, ...] | None]:
    """Package count and the cores as CPU lists, over online CPUs."""
    cores: set[frozenset[int]] = set()
    packages: set[str | int | frozenset[int]] = set()
    for cpu in sorted(online):
        core = _siblings(host, cpu, "core_cpus", "thread_siblings")
        if core is None:
            return None, None
        cores.add(core & online or frozenset({cpu}))
        number = _integer(_read(host, f"{_CPU}/cpu{cpu}/topology/physical_package_id"))
        package = _siblings(host, cpu, "package_cpus", "core_siblings")
        packages.add(number if number is not None and number >= 0 else (package or frozenset({cpu})) & online)
    ordered = sorted(cores, key=min)
    return len(packages) or None, tuple(format_cpulist(core) for core in ordered)


def _l3_groups(host: Host, online: frozenset[int]) -> tuple[str, ...] | None:
    groups: set[frozenset[int]] = set()
    seen = False
    for cpu in sorted(online):
        # SPARC reports sizes next to the topology, and has no third level.
        seen = seen or host.files.exists(f"{_CPU}/cpu{cpu}/l1_dcache_size")
        for index in _numbered(host, f"{_CPU}/cpu{cpu}/cache", "index"):
            base = f"{_CPU}/cpu{cpu}/cache/index{index}"
            level = _read(host, f"{base}/level")
            seen = seen or level is not None
            if level != "3":
                continue
            shared = _cpus(host, f"{base}/shared_cpu_list", f"{base}/shared_cpu_map")
            if shared:
                groups.add(shared & online)
    if not seen:
        return None
    return tuple(format_cpulist(group) for group in sorted(groups, key=min))


def _memory_kib(host: Host, number: int) -> int | None:
    text = _read(host, f"{_NODE}/node{number}/meminfo") or ""
    return total_kib(text)


def _hugepages(host: Host, number: int) -> dict[str, int]:
    base = f"{_NODE}/node{number}/hugepages"
    pools: dict[str, int] = {}
    for name in _names(host, base):
        match = re.match(r"hugepages-(\d+)kB\Z", name)
        pages = _integer(_read(host, f"{base}/{name}/nr_hugepages"))
        if match and pages is not None:
            pools[match.group(1)] = pages
    return pools


def _numa_nodes(host: Host, online: frozenset[int]) -> tuple[NumaNode, ...] | None:
    numbers = _numbered(host, _NODE, "node")
    listed = _cpulist(host, f"{_NODE}/online")
    if listed is not None:
        numbers = [number for number in numbers if number in listed]
    if not numbers:
        return None
    nodes = []
    for number in numbers:
        cpus = _cpus(host, f"{_NODE}/node{number}/cpulist", f"{_NODE}/node{number}/cpumap")
        if cpus is None:
            cpus = frozenset(_numbered(host, f"{_NODE}/node{number}", "cpu"))
        words = (_read(host, f"{_NODE}/node{number}/distance") or "").split()
        distances = tuple(int(word) for word in words) if words and all(w.isdigit() for w in words) else None
        nodes.append(
            NumaNode(
                number,
                format_cpulist(cpus & online if online else cpus),
                _memory_kib(host, number),
                distances,
                _hugepages(host, number),
            )
        )
    return _with_all_memory(nodes, total_kib(_read(host, "proc/meminfo") or ""))


def _with_all_memory(nodes: list[NumaNode], total: int | None) -> tuple[NumaNode, ...]:
    """Nodes with the memory that the machine has.

    Where memory was added to a running virtual machine, its nodes may still tell what it was started with (6 GiB of
    560 were seen). Then a single node has all of it, and of several nodes that have some it is not known which has how
    much.
    """
    known = sum(node.memory_kib or 0 for node in nodes)
    if total is None or known == 0 or known >= 0.9 * total:
        return tuple(nodes)
    only = total if len(nodes) == 1 else None
    return tuple(msgspec.structs.replace(node, memory_kib=only) if node.memory_kib else node for node in nodes)


def _pci_devices(host: Host) -> dict[str, list[PciDevice]] | None:
    addresses = _names(host, _PCI)[:DEVICE_LIMIT]
    if not addresses:
        return None
    found: dict[str, list[PciDevice]] = {"gpus": [], "nics": [], "nvme": [], "nvswitches": []}
    bridges = _bridges(host, addresses)
    for address in addresses:
        kind = (_read(host, f"{_PCI}/{address}/class") or "").removeprefix("0x")[:4]
        if kind[:2] in ("03", "12") or kind == "0b40":
            group = found["gpus"]
        elif kind[:2] == "02":
            group = found["nics"]
        elif kind == "0108":
            group = found["nvme"]
        elif kind == "0680" and _hex(_read(host, f"{_PCI}/{address}/vendor")) == "10de":
            group = found["nvswitches"]
        else:
            continue
        base = f"{_PCI}/{address}"
        local = _cpus(host, f"{base}/local_cpulist", f"{base}/local_cpus")
        group.append(
            PciDevice(
                address,
                kind,
                _hex(_read(host, f"{base}/vendor")),
                _hex(_read(host, f"{base}/device")),
                _integer(_read(host, f"{base}/numa_node")),
                format_cpulist(local) if local is not None else None,
                tuple(_names(host, f"{base}/net") or _names(host, f"{base}/nvme")),
                _above(address, bridges),
            )
        )
    return found


def _bridges(host: Host, addresses: list[str]) -> dict[str, str | None]:
    """For each domain and bus the bridge that leads to it, by its own registers (byte 19h of its configuration).

    Where a bridge cannot be read its domain has None: what is below it is not known.
    """
    found: dict[str, str | None] = {}
    for address in addresses:
        if (_read(host, f"{_PCI}/{address}/class") or "").removeprefix("0x")[:4] != "0604":
            continue
        domain = address.partition(":")[0]
        bus = _integer(_read(host, f"{_PCI}/{address}/secondary_bus_number"))
        if bus is None:
            try:
                bus = host.files.read_bytes(f"{_PCI}/{address}/config")[0x19]
            except (PathMissing, ReadFailed, IndexError):
                found[domain] = None
                continue
        found[f"{domain}:{bus:02x}"] = address
    return found


def _above(address: str, bridges: Mapping[str, str | None]) -> tuple[str, ...] | None:
    """Bridges above a device, the nearest first; None where one of them is not known."""
    found: list[str] = []
    domain = address.partition(":")[0]
    while (above := bridges.get(address.rpartition(":")[0])) is not None and above not in found:
        found.append(above)
        address = above
    return None if domain in bridges else tuple(found)


def _hex(text: str | None) -> str | None:
    return text.removeprefix("0x") if text else None


def _arch(host: Host) -> str | None:
    if host.source == "live":
        return machine()[2]
    text = _read(host, "proc/sys/kernel/arch")
    if text:
        return text
    for path, pattern, arch in _ARCH_SIGNS:
        if re.search(pattern, _read(host, path) or "", re.MULTILINE):
            return arch
    return None


# What reveals the architecture, most certain first: a 64-bit CPU may run a 32-bit kernel, and POWER either byte order.
_ARCH_SIGNS = (
    ("proc/version", r"\.x86_64 ", "x86_64"),
    ("proc/version", r"\.aarch64 ", "aarch64"),
    ("proc/version", r"ppc64le", "ppc64le"),
    ("proc/cpuinfo", r"^fdiv_bug\s*:", "i686"),
    ("proc/cpuinfo", r"^flags\s*:.*\blm\b", "x86_64"),
    ("proc/cpuinfo", r"^flags\s*:.*\bfpu\b", "i686"),
    ("proc/cpuinfo", r"^CPU architecture\s*:\s*(8|AArch64)", "aarch64"),
    ("proc/cpuinfo", r"^CPU architecture\s*:\s*7", "armv7l"),
    ("proc/cpuinfo", r"^vendor_id\s*:\s*IBM/S390", "s390x"),
    ("proc/cpuinfo", r"^isa\s*:\s*rv64", "riscv64"),
    ("proc/cpuinfo", r"^arch(itecture)?\s*:\s*IA-64", "ia64"),
    ("proc/cpuinfo", r"^type\s*:\s*sun4", "sparc64"),
    # These ran big-endian kernels only.
    ("proc/cpuinfo", r"^cpu\s*:\s*(PPC970|POWER[4-7]|Cell)", "ppc64"),
    # CPU feature 0x3d of this list is long mode.
    ("sys/devices/system/cpu/modalias", r"^cpu:type:x86,.*,003D(,|$)", "x86_64"),
)


def read_topology(host: Host) -> Topology:
    """Read the whole picture. Never raises for a damaged tree: what is unclear is None."""
    online = _online_cpus(host)
    packages, cores = _shape(host, online) if online else (None, None)
    pci = _pci_devices(host)
    possible = _cpulist(host, f"{_CPU}/possible")
    smt = max((len(parse_cpulist(core)) for core in cores), default=None) if cores else None
    return Topology(
        arch=_arch(host),
        cpus_online=len(online) if online else None,
        cpulist_online=format_cpulist(online) if online else None,
        cpulist_possible=format_cpulist(possible) if possible is not None else None,
        packages=packages,
        cores=len(cores) if cores else None,
        smt=smt,
        numa_nodes=_numa_nodes(host, online or frozenset()),
        l3_groups=_l3_groups(host, online) if online else None,
        pci_gpus=_tuple(pci["gpus"]) if pci else None,
        nics=_tuple(pci["nics"]) if pci else None,
        nvme=_tuple(pci["nvme"]) if pci else None,
        nvswitches=_tuple(pci["nvswitches"]) if pci else None,
        cores_cpus=cores,
    )


def read_interrupts(host: Host, topology: Topology) -> dict[str, str]:
    """For each device with interrupts of its own their number, and the CPUs that serve them, in words."""
    found: dict[str, str] = {}
    for device in (*(topology.pci_gpus or ()), *(topology.nics or ()), *(topology.nvme or ())):
        numbers = [name for name in _names(host, f"{_PCI}/{device.address}/msi_irqs") if name.isdigit()]
        cpus: frozenset[int] = frozenset()
        for number in numbers:
            serving = _cpulist(host, f"proc/irq/{number}/effective_affinity_list")
            cpus |= serving or _cpulist(host, f"proc/irq/{number}/smp_affinity_list") or frozenset()
        if numbers:
            where = f" on CPUs {format_cpulist(cpus)}" if cpus else ""
            found[device.address] = f"{len(numbers)} interrupt{'' if len(numbers) == 1 else 's'}{where}"
    return found


def _tuple(devices: Iterable[PciDevice]) -> tuple[PciDevice, ...]:
    return tuple(sorted(devices, key=lambda device: device.address))
