"""The tree of a host on which a profile with every common kind of setting has thirty changes to make."""

from __future__ import annotations

from typing import Any

# Thirty changes: eighteen sysctl keys, two pairs, seven THP files, two pools, one governor.
SYSCTLS = [
    "vm.swappiness", "vm.zone_reclaim_mode", "vm.max_map_count", "vm.min_free_kbytes", "vm.overcommit_memory",
    "vm.stat_interval", "vm.vfs_cache_pressure", "vm.watermark_scale_factor", "vm.compaction_proactiveness",
    "vm.page-cluster", "kernel.numa_balancing", "kernel.pid_max", "kernel.hung_task_timeout_secs", "kernel.watchdog",
    "net.core.somaxconn", "net.core.rmem_max", "net.core.wmem_max", "net.core.netdev_max_backlog",
]  # fmt: skip
THP = "sys/kernel/mm/transparent_hugepage"
POOL = "sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
FILES = {
    **{"proc/sys/" + key.replace(".", "/"): "1\n" for key in SYSCTLS},
    "proc/sys/vm/dirty_ratio": "20\n", "proc/sys/vm/dirty_bytes": "0\n",
    "proc/sys/vm/dirty_background_ratio": "10\n", "proc/sys/vm/dirty_background_bytes": "0\n",
    f"{THP}/enabled": "[always] madvise never\n", f"{THP}/defrag": "always defer defer+madvise [madvise] never\n",
    **{f"{THP}/khugepaged/{name}": "1\n" for name in ("pages_to_scan", "scan_sleep_millisecs", "alloc_sleep_millisecs", "max_ptes_none")},
    f"{THP}/khugepaged/defrag": "1\n",
    "sys/devices/system/cpu/online": "0-1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/node/online": "0-1\n",
    "sys/devices/system/node/node0/cpulist": "0\n", "sys/devices/system/node/node1/cpulist": "1\n",
    POOL.format(0): "0\n", POOL.format(1): "0\n",
    "etc/sysctl.d/10-own.conf": "vm.swappiness = 40\n",
    "proc/sys/kernel/random/boot_id": "b0\n",
}  # fmt: skip
TUNE: dict[str, Any] = {
    "sysctl": dict.fromkeys(SYSCTLS, 2),
    "dirtyPages": {"bytes": 8589934592, "backgroundBytes": 1073741824},
    "transparentHugepages": {
        "enabled": "madvise", "defrag": "never",
        "khugepaged": {"defrag": 0, "pagesToScan": 2, "scanSleepMilliseconds": 2, "allocSleepMilliseconds": 2, "maxPtesNone": 2},
    },
    "hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 8}]},
    "cpuGovernor": {"governor": "performance"},
}  # fmt: skip
