"""Rows of the tunable sysctl: why each key matters, where that is written, and its range."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.values import Dispute, Severity

_VM = "https://docs.kernel.org/admin-guide/sysctl/vm.html"
_KERNEL = "https://docs.kernel.org/admin-guide/sysctl/kernel.html"
_NET = "https://docs.kernel.org/admin-guide/sysctl/net.html"
_FS = "https://docs.kernel.org/admin-guide/sysctl/fs.html"
_IP = "https://docs.kernel.org/networking/ip-sysctl.html"
_CONNTRACK = "https://docs.kernel.org/networking/nf_conntrack-sysctl.html"
_LARGEST = 2147483647


class SysctlRow(msgspec.Struct, frozen=True):
    """One key: how bad a wrong value is, why, the source, and the kernel's own default where it has one."""

    severity: Severity
    why: str
    source: str
    default: int | None = None
    highest: int | None = None
    dispute: Dispute | None = None


LOW, MEDIUM, HIGH = Severity.LOW, Severity.MEDIUM, Severity.HIGH
ROWS: dict[str, SysctlRow] = {
    "fs.aio-max-nr": SysctlRow(LOW, "asynchronous reads of many loaders fail at this limit", _FS, 65536, _LARGEST),
    "fs.file-max": SysctlRow(LOW, "the whole machine runs out of open files", _FS),
    "fs.inotify.max_user_instances": SysctlRow(LOW, "with many pods, log and file watchers fail at this limit", _FS, 128, _LARGEST),
    "fs.inotify.max_user_watches": SysctlRow(LOW, "with many pods, log and file watchers fail at this limit", _FS, None, _LARGEST),
    "fs.nr_open": SysctlRow(LOW, "no process can be allowed more open files than this", _FS, 1048576, _LARGEST),
    "kernel.numa_balancing": SysctlRow(HIGH, "automatic NUMA balancing unmaps pages to see who uses them; the faults stall threads that feed GPUs", _KERNEL, None, 3, dispute=Dispute(
"DeepEP measured stalls of 5 to 31 ms; Grace and ROCm guides and hpc-compute switch it off",
"up to 20 % lost on AMD where nothing was pinned (TuneD pull request 283)",
"off where GPU processes are pinned; on in mig-multi-tenant",
),),
    "kernel.pid_max": SysctlRow(LOW, "many ranks and data loaders on one node run out of process numbers", _KERNEL, None, 4194304),
    "kernel.sched_autogroup_enabled": SysctlRow(LOW, "grouping by terminal session shares CPU time in a way that no service wants", _KERNEL, None, 1),
    "kernel.sched_rt_runtime_us": SysctlRow(MEDIUM, "without this bound a real-time task can take a CPU for good", _KERNEL, 950000),
    "kernel.threads-max": SysctlRow(LOW, "the whole machine runs out of threads", _KERNEL),
    "kernel.timer_migration": SysctlRow(LOW, "with 0 timers stay on the CPU that set them, busy or isolated", _KERNEL, 1, 1),
    "net.core.busy_poll": SysctlRow(LOW, "spinning on sockets saves a wake-up and takes the CPU from loaders (microseconds)", _NET, 0, 1000),
    "net.core.busy_read": SysctlRow(LOW, "spinning on sockets saves a wake-up and takes the CPU from loaders (microseconds)", _NET, 0, 1000),
    "net.core.netdev_budget": SysctlRow(LOW, "packets that one pass of the receive interrupt may process", _NET, 300, _LARGEST),
    "net.core.netdev_max_backlog": SysctlRow(LOW, "packets beyond this backlog are dropped when a burst outruns the CPU", _NET, 1000, _LARGEST),
    "net.core.rmem_max": SysctlRow(MEDIUM, "a socket cannot ask for a larger receive buffer; fast links stay below line rate", _NET, None, _LARGEST),
    "net.core.somaxconn": SysctlRow(MEDIUM, "a listen queue that is too short drops connections when thousands of ranks start", _NET, 4096, _LARGEST),
    "net.core.wmem_max": SysctlRow(MEDIUM, "a socket cannot ask for a larger send buffer; fast links stay below line rate", _NET, None, _LARGEST),
    "net.ipv4.conf.all.arp_announce": SysctlRow(MEDIUM, "with many NICs in one subnet each must announce only its own address", _IP, 0, 2),
    "net.ipv4.conf.all.arp_ignore": SysctlRow(MEDIUM, "with many NICs in one subnet each must answer only for its own address", _IP, 0, 8),
    "net.ipv4.conf.all.rp_filter": SysctlRow(MEDIUM, "strict reverse-path filtering drops packets on multi-rail fabrics", _IP, None, 2),
    "net.ipv4.ip_local_port_range": SysctlRow(LOW, "ports for outgoing connections run out", _IP),
    "net.ipv4.neigh.default.gc_thresh1": SysctlRow(MEDIUM, "entries of a neighbour (ARP) table that is too small are evicted, and peers become unreachable", _IP, 128, _LARGEST),
    "net.ipv4.neigh.default.gc_thresh2": SysctlRow(MEDIUM, "entries of a neighbour (ARP) table that is too small are evicted, and peers become unreachable", _IP, 512, _LARGEST),
    "net.ipv4.neigh.default.gc_thresh3": SysctlRow(MEDIUM, "a full neighbour (ARP) table drops packets", _IP, 1024, _LARGEST),
    "net.ipv4.tcp_rmem": SysctlRow(LOW, "limits of the automatic TCP receive buffer", _IP),
    "net.ipv4.tcp_slow_start_after_idle": SysctlRow(LOW, "an idle connection drops back to slow start before each burst", _IP, 1, 1),
    "net.ipv4.tcp_wmem": SysctlRow(LOW, "limits of the automatic TCP send buffer", _IP),
    "net.netfilter.nf_conntrack_max": SysctlRow(MEDIUM, "a full connection table drops new connections", _CONNTRACK, None, _LARGEST),
    "vm.compaction_proactiveness": SysctlRow(LOW, "compacting memory in advance costs time now and saves it at an allocation", _VM, 20, 100),
    "vm.max_map_count": SysctlRow(MEDIUM, "loaders and runtimes with many mappings fail with ENOMEM at this limit", _VM, 65530, _LARGEST),
    "vm.min_free_kbytes": SysctlRow(MEDIUM, "with too little reserve, packet buffers cannot be allocated in a burst", _VM, None, _LARGEST),
    "vm.overcommit_memory": SysctlRow(MEDIUM, "2 refuses the large address reservations that CUDA makes", _VM, 0, 2),
    "vm.page-cluster": SysctlRow(LOW, "extra pages that one swap-in reads", _VM, 3, 10),
    "vm.stat_interval": SysctlRow(LOW, "the statistics tick of each CPU wakes threads that poll a GPU or a NIC", _VM, 1, _LARGEST),
    "vm.swappiness": SysctlRow(LOW, "a high value swaps out the memory of jobs to keep page cache", _VM, 60, 200),
    "vm.vfs_cache_pressure": SysctlRow(LOW, "cached names of many small files are dropped too soon", _VM, 100, 10000),
    "vm.watermark_boost_factor": SysctlRow(LOW, "after a fragmented allocation the kernel reclaims beyond the watermarks, at the cost of page cache", _VM, 15000),
    "vm.watermark_scale_factor": SysctlRow(LOW, "how early the background reclaim starts", _VM, 10, 3000),
    "vm.zone_reclaim_mode": SysctlRow(MEDIUM, "reclaiming on the local node before using another one stalls large allocations", _VM, 0, 7, dispute=Dispute(
"hpc-compute sets 1",
"the kernel's default is 0, and 1 stalls allocations while other nodes have memory",
"0",
),),
}  # fmt: skip
