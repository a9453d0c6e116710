"""NUMA, memory and huge page rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from tuneagent.checks.rows import CheckRow, about, at_least, at_most, each, equal, field, gathered
from tuneagent.contracts.values import Absent, Observation, Setting, Severity, Unreadable, Value
from tuneagent.facts.conditions import arm64, has_nvidia_gpu, metal, several_nodes
from tuneagent.facts.one_pass import Facts

_NUMA = "https://docs.kernel.org/admin-guide/mm/numaperf.html"


def _memory_spread(facts: Facts) -> Observation:
    nodes = facts.topology.numa_nodes
    if nodes is None:
        return Unreadable("the NUMA nodes of this host are not known")
    sizes = [node.memory_kib for node in nodes if node.cpus]
    known = [size for size in sizes if size is not None]
    if 0 in known and any(size != 0 for size in sizes):
        return Value(100.0)
    if len(known) < len(sizes) or not any(known):
        return Unreadable("the memory of a node is not known")
    return Value(round(100 * (max(known) - min(known)) / max(known), 1))


def _distances(facts: Facts) -> Observation:
    if facts.topology.numa_nodes is None:
        return Unreadable("the NUMA nodes of this host are not known")
    nodes = facts.topology.nodes
    tables = {node.id: node.distances for node in nodes}
    faults = []
    for row, node in enumerate(nodes):
        table = tables[node.id]
        if table is None or len(table) != len(nodes):
            return Unreadable(f"the distances of node {node.id} are not known")
        for column, other in enumerate(nodes):
            back = tables[other.id]
            if (row == column) != (table[column] == 10) or (back is not None and back[row] != table[column]):
                faults.append(f"{node.id}-{other.id}")
    return Value(faults)


def _gpu_nodes(facts: Facts) -> Observation:
    gpus = facts.topology.pci_gpus
    if gpus is None:
        return Unreadable("the PCI devices of this host are not known")
    if any(gpu.numa_node is None for gpu in gpus):
        return Unreadable("a GPU's numa_node could not be read")
    return Value(sorted(gpu.address for gpu in gpus if gpu.vendor == "10de" and gpu.numa_node == -1))


def _gpus_without_nic(facts: Facts) -> Observation:
    picture = facts.topology
    if picture.pci_gpus is None or picture.nics is None:
        return Unreadable("the PCI devices of this host are not known")
    nodes = {nic.numa_node for nic in picture.nics}
    return Value(sorted(g.address for g in picture.pci_gpus if g.vendor == "10de" and g.numa_node not in nodes))


def _nodes_by_gpu(facts: Facts) -> Observation:
    """NUMA nodes of the GPUs in the order in which ranks take them."""
    # A profile without this check needs none of it.
    from tuneagent.facts.gpu_paths import with_paths

    picture = with_paths(facts)
    if picture.pci_gpus is None:
        return Unreadable("the PCI devices of this host are not known")
    gpus = [gpu for gpu in picture.pci_gpus if gpu.vendor == "10de"]
    nodes = [picture.node_of(gpu) for gpu in gpus]
    if len(gpus) < 2:
        return Absent("fewer than two GPUs")
    if any(node is None for node in nodes):
        return Unreadable("the NUMA node of a GPU is not known")
    linked = {frozenset((path.one, path.other)) for path in picture.paths if path.nvlinks}
    if all(frozenset((one.address, other.address)) in linked for one, other in itertools.pairwise(gpus)):
        return Absent("GPUs in a row have NVLinks, which do not cross the socket link")
    return Value(nodes)


def in_runs(seen: Sequence[int], wanted: Setting) -> bool:
    """What is equal stands together."""
    del wanted
    return len(list(itertools.groupby(seen))) == len(set(seen))


def _memory_only_nodes(facts: Facts) -> Observation:
    nodes = facts.topology.numa_nodes
    if nodes is None:
        return Unreadable("the NUMA nodes of this host are not known")
    return Value([node.id for node in nodes if not node.cpus and node.memory_kib])


def _nodes_per_package(facts: Facts) -> Observation:
    picture = facts.topology
    if picture.numa_nodes is None or not picture.packages:
        return Unreadable("the NUMA nodes or packages of this host are not known")
    return Value(sum(bool(node.cpus) for node in picture.nodes) // picture.packages)


def _numa_miss(facts: Facts) -> Observation:
    hit = miss = 0
    for node in facts.topology.nodes:
        seen = facts.host.observe(f"sys/devices/system/node/node{node.id}/numastat")
        if not isinstance(seen, Value):
            return seen
        counts = dict(re.findall(r"^(\w+) (\d+)$", str(seen.value), re.MULTILINE))
        if "numa_hit" not in counts:
            return Unreadable(f"/sys/devices/system/node/node{node.id}/numastat: no numa_hit")
        hit, miss = hit + int(counts["numa_hit"]), miss + int(counts.get("numa_miss", 0))
    return Value(round(100 * miss / max(hit + miss, 1), 2))


def _page_size(facts: Facts) -> Observation:
    # What one entry of a middle page table covers follows from the base page: 2 MiB with 4 KiB, 512 MiB with 64 KiB.
    # The default huge page is as large, unless default_hugepagesz= says otherwise.
    covered = facts.host.observe("sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
    if isinstance(covered, Value) and str(covered.value).isdigit():
        size = _BASE_PAGES.get(int(str(covered.value)) // 1024)
        return Value(size) if size else Unreadable(f"hpage_pmd_size: {covered.value} fits no known page size")
    seen = field("proc/meminfo", r"^Hugepagesize:\s+(\d+) kB", int)(facts)
    if not isinstance(seen, Value):
        return seen
    size = _BASE_PAGES.get(int(str(seen.value)))
    return Value(size) if size else Unreadable(f"/proc/meminfo: huge pages of {seen.value} kB fit no known page size")


def _free_blocks(facts: Facts) -> Observation:
    """Free blocks of at least 2 MiB (order 9 and up) of each node."""
    seen = facts.host.observe("proc/buddyinfo")
    if not isinstance(seen, Value):
        return seen
    found: dict[str, int] = {}
    for node, counts in re.findall(r"^Node (\d+), zone\s+Normal\s+([\d ]+)$", str(seen.value), re.MULTILINE):
        found[node] = sum(int(count) for count in counts.split()[9:])
    return Value(found) if found else Unreadable("/proc/buddyinfo: no zone Normal")


def _unused_pages(facts: Facts) -> Observation:
    seen = facts.host.observe("proc/meminfo")
    if not isinstance(seen, Value):
        return seen
    sizes = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", str(seen.value), re.MULTILINE)}
    if not sizes.get("MemTotal"):
        return Unreadable("/proc/meminfo: no MemTotal")
    if "HugePages_Free" not in sizes or "Hugepagesize" not in sizes:
        return Absent("this kernel has no huge pages")
    # /proc/meminfo counts pages of the default size alone.
    free = {f"hugepages-{sizes['Hugepagesize']}kB": sizes["HugePages_Free"]}
    for name in facts.host.files.names(_POOLS):
        pages = facts.host.observe(f"{_POOLS}/{name}/free_hugepages")
        if not re.match(r"hugepages-\d+kB\Z", name) or isinstance(pages, Absent):
            continue
        if not isinstance(pages, Value):
            return pages
        if not str(pages.value).isdigit():
            return Unreadable(f"/{_POOLS}/{name}/free_hugepages: {pages.value!r} is not a count")
        free[name] = int(str(pages.value))
    kib = sum(count * int(name.removeprefix("hugepages-").removesuffix("kB")) for name, count in free.items())
    return Value(round(100 * kib / sizes["MemTotal"], 1))


# KiB that one entry of a middle page table covers on arm64: bytes of a base page.
_BASE_PAGES = {2048: 4096, 32768: 16384, 524288: 65536}
_POOLS = "sys/kernel/mm/hugepages"
_EDAC = "sys/devices/system/edac/mc"


def _edac(facts: Facts) -> Mapping[str, str]:
    names = [name for name in facts.host.files.names(_EDAC) if re.match(r"mc\d+\Z", name)]
    return {name: f"{_EDAC}/{name}/ue_count" for name in names}


ROWS: dict[str, CheckRow] = {
    "numaMemorySpreadMax": CheckRow(
        group="numa", read=_memory_spread, right=at_most, kind=float | None, applies=(several_nodes,),
        evidence="/sys/devices/system/node/node*/meminfo",
        about=about(Severity.HIGH, "a node with less memory than the others has lost a DIMM", _NUMA,
                    "compare with dmidecode and with similar machines"),
    ),
    "numaDistances": CheckRow(
        group="numa", read=_distances, right=equal, expect=[], applies=(several_nodes,),
        evidence="/sys/devices/system/node/node*/distance",
        about=about(Severity.LOW, "a distance table that is not symmetric misleads every allocator", _NUMA,
                    "a firmware fault"),
    ),
    "numaGpuNode": CheckRow(
        group="numa", read=_gpu_nodes, right=equal, expect=[], applies=(has_nvidia_gpu, several_nodes, metal),
        evidence="/sys/bus/pci/devices/*/numa_node",
        about=about(Severity.HIGH, "if the firmware hides a GPU's node, jobs cannot get CPUs and memory near it",
                    "https://docs.kernel.org/PCI/sysfs-pci.html",
                    "update the firmware; tuneagent never writes numa_node"),
    ),
    "numaGpuNic": CheckRow(
        group="numa", read=_gpus_without_nic, right=equal, expect=[], applies=(has_nvidia_gpu, several_nodes),
        evidence="/sys/bus/pci/devices/*/numa_node",
        about=about(Severity.MEDIUM, "a GPU without a NIC on its node sends all its traffic over the socket link",
                    "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html"),
    ),
    "numaGpuOrder": CheckRow(
        group="numa", read=_nodes_by_gpu, right=in_runs, applies=(has_nvidia_gpu, several_nodes),
        evidence="/sys/bus/pci/devices/*/numa_node",
        about=about(Severity.LOW, "ranks take GPUs in this order, and a ring of them crosses the socket link more often than it must",
                    "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html",
                    "set CUDA_VISIBLE_DEVICES so that GPUs of one node stand together"),
    ),
    "noMemoryOnlyNodes": CheckRow(
        group="numa", read=_memory_only_nodes, right=equal, expect=[], applies=(arm64,),
        evidence="/sys/devices/system/node",
        about=about(Severity.HIGH, "GPU memory onlined as NUMA nodes counts as the node's RAM for the kubelet",
                    "https://github.com/NVIDIA/open-gpu-kernel-modules",
                    "set NVreg_CoherentGPUMemoryMode=driver and reload the driver"),
    ),
    "nodesPerPackage": CheckRow(
        group="numa", read=_nodes_per_package, right=equal, kind=int | None, evidence="/sys/devices/system/node",
        about=about(Severity.MEDIUM,
                    "sub-NUMA clustering halves what is local; with more than 8 nodes the kubelet does not start",
                    "https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/",
                    "change NPS or SNC in the firmware"),
    ),
    "numaMissMax": CheckRow(
        group="numa", read=_numa_miss, right=at_most, kind=float | None, applies=(several_nodes,),
        evidence="/sys/devices/system/node/node*/numastat",
        about=about(Severity.MEDIUM, "memory was allocated on a node other than the wanted one", _NUMA),
    ),
    "pageSize": CheckRow(
        group="memory", read=_page_size, right=equal, kind=int | None, applies=(arm64,), evidence="/proc/meminfo",
        about=about(Severity.HIGH, "a 4 KiB base page on Grace costs TLB misses; 64 KiB is recommended",
                    "https://docs.nvidia.com/grace-perf-tuning-guide/os-settings.html",
                    "use a kernel built for 64 KiB pages"),
    ),
    "hugePageSupplyMin": CheckRow(
        group="hugepages", read=_free_blocks, right=at_least, kind=int | None, evidence="/proc/buddyinfo",
        about=about(Severity.LOW, "memory is too fragmented to allocate huge pages at run time",
                    "https://docs.kernel.org/admin-guide/mm/hugetlbpage.html", "reserve them at boot"),
    ),
    "hugePagesIdleMax": CheckRow(
        group="hugepages", read=_unused_pages, right=at_most, kind=float | None, evidence="/proc/meminfo",
        about=about(Severity.MEDIUM, "reserved huge pages that nobody uses are memory that nobody else can use",
                    "https://docs.kernel.org/admin-guide/mm/hugetlbpage.html"),
    ),
    "memoryErrors": CheckRow(
        group="health", read=gathered(_edac, int, "no memory controller has error counters", _EDAC), right=each, expect=0,
        evidence="/sys/devices/system/edac/mc/mc*/ue_count",
        about=about(Severity.CRITICAL, "uncorrected memory errors kill processes or crash the machine",
                    "https://docs.kernel.org/driver-api/edac.html", "drain the node and replace the DIMM"),
    ),
    "oomKills": CheckRow(
        group="health", read=field("proc/vmstat", r"^oom_kill (\d+)$", int, "this kernel counts no kills"), right=equal,
        expect=0, evidence="/proc/vmstat",
        about=about(Severity.HIGH, "the kernel has killed processes since boot because memory ran out",
                    "https://docs.kernel.org/filesystems/proc.html", "dmesg lists them"),
    ),
}  # fmt: skip
