"""Which keys of /proc/sys a profile may name, and which belong to another tunable."""

from __future__ import annotations

# What a profile may name at all. Keys that run programs or disarm the kernel are not among them.
NAMES = {
    "vm": (
        "swappiness", "zone_reclaim_mode", "max_map_count", "min_free_kbytes", "overcommit_memory", "overcommit_ratio",
        "stat_interval", "vfs_cache_pressure", "watermark_boost_factor", "watermark_scale_factor",
        "compaction_proactiveness", "compact_unevictable_allowed", "dirty_expire_centisecs",
        "dirty_writeback_centisecs", "page-cluster", "min_unmapped_ratio", "min_slab_ratio", "admin_reserve_kbytes",
        "user_reserve_kbytes", "hugetlb_shm_group", "nr_overcommit_hugepages", "laptop_mode", "numa_stat",
    ),
    "kernel": (
        "numa_balancing", "numa_balancing_promote_rate_limit_MBps", "pid_max", "threads-max", "timer_migration",
        "sched_autogroup_enabled", "sched_rt_runtime_us", "sched_rt_period_us", "sched_cfs_bandwidth_slice_us",
        "sched_schedstats", "nmi_watchdog", "watchdog", "watchdog_thresh", "hung_task_timeout_secs", "shmmax", "shmall",
        "shmmni", "msgmax", "msgmnb", "msgmni", "sem",
    ),
    "fs": ("file-max", "nr_open", "aio-max-nr"),
    "net.core": (
        "somaxconn", "rmem_max", "rmem_default", "wmem_max", "wmem_default", "optmem_max", "netdev_max_backlog",
        "netdev_budget", "netdev_budget_usecs", "busy_poll", "busy_read", "default_qdisc", "dev_weight",
        "rps_sock_flow_entries",
    ),
    "net.ipv4": ("ip_local_port_range", "udp_mem", "udp_rmem_min", "udp_wmem_min"),
    "net.ipv4.neigh.default": ("gc_thresh1", "gc_thresh2", "gc_thresh3"),
    "net.netfilter": ("nf_conntrack_max",),
    "sunrpc": ("tcp_slot_table_entries", "tcp_max_slot_table_entries", "udp_slot_table_entries"),
}  # fmt: skip
FAMILIES = (
    r"fs\.inotify\.max_[a-z_]+|net\.ipv4\.tcp_[a-z0-9_]+"
    r"|net\.ipv6\.neigh\.default\.gc_thresh[123]"
    # The dots of an interface's name are slashes here, as in sysctl.d(5).
    r"|net\.ipv4\.conf\.[A-Za-z0-9_/:@-]{1,15}\.(arp_ignore|arp_announce|arp_filter|rp_filter)"
)
# Keys that are there only once a module is.
OF_MODULES = {"sunrpc.": "sunrpc", "net.netfilter.nf_conntrack_": "nf_conntrack"}
ELSEWHERE = {
    "vm.dirty_ratio": "dirtyPages",
    "vm.dirty_bytes": "dirtyPages",
    "vm.dirty_background_ratio": "dirtyPages",
    "vm.dirty_background_bytes": "dirtyPages",
    "vm.nr_hugepages": "hugepages",
    "vm.nr_hugepages_mempolicy": "hugepages",
}
