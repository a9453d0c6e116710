"""Random legal configurations of a boot: several mechanisms at once for the same settings, from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

# Lowest and highest of what is written; several numbers are written in this order.
SYSCTLS: dict[str, Sequence[tuple[int, int]]] = {
    "vm.swappiness": [(0, 100)], "vm.vfs_cache_pressure": [(1, 200)], "vm.stat_interval": [(1, 60)],
    "vm.dirty_expire_centisecs": [(1000, 6000)], "vm.dirty_writeback_centisecs": [(100, 1000)], "vm.page-cluster": [(0, 5)],
    "vm.watermark_boost_factor": [(0, 15000)], "vm.watermark_scale_factor": [(10, 100)], "vm.compaction_proactiveness": [(0, 100)],
    "vm.zone_reclaim_mode": [(0, 1)], "vm.overcommit_ratio": [(40, 100)], "vm.max_map_count": [(65530, 262144)],
    "vm.min_unmapped_ratio": [(1, 5)], "vm.min_slab_ratio": [(1, 10)], "vm.laptop_mode": [(0, 5)],
    "vm.admin_reserve_kbytes": [(4096, 16384)], "vm.user_reserve_kbytes": [(8192, 32768)],
    "kernel.numa_balancing": [(0, 1)], "kernel.pid_max": [(32768, 4194304)], "kernel.timer_migration": [(0, 1)],
    "kernel.sched_autogroup_enabled": [(0, 1)], "kernel.sched_rt_runtime_us": [(900000, 950000)],
    "kernel.sched_cfs_bandwidth_slice_us": [(1000, 10000)], "kernel.sched_schedstats": [(0, 1)],
    "kernel.hung_task_timeout_secs": [(0, 600)], "kernel.shmmni": [(4096, 8192)], "kernel.msgmni": [(16000, 32000)],
    "kernel.sem": [(250, 500), (32000, 64000), (32, 64), (128, 256)],
    "fs.file-max": [(100000, 1000000)], "fs.nr_open": [(1048576, 2097152)], "fs.aio-max-nr": [(65536, 1048576)],
    "fs.inotify.max_user_watches": [(8192, 1048576)], "fs.inotify.max_user_instances": [(128, 1024)],
    "net.core.somaxconn": [(128, 65535)], "net.core.rmem_max": [(212992, 67108864)], "net.core.wmem_max": [(212992, 67108864)],
    "net.core.rmem_default": [(131072, 212992)], "net.core.optmem_max": [(20480, 81920)], "net.core.netdev_max_backlog": [(1000, 250000)],
    "net.core.netdev_budget": [(300, 600)], "net.core.busy_poll": [(0, 50)], "net.core.busy_read": [(0, 50)],
    "net.ipv4.tcp_slow_start_after_idle": [(0, 1)], "net.ipv4.tcp_mtu_probing": [(0, 2)], "net.ipv4.tcp_sack": [(0, 1)],
    "net.ipv4.tcp_timestamps": [(0, 2)], "net.ipv4.tcp_fin_timeout": [(10, 60)], "net.ipv4.tcp_no_metrics_save": [(0, 1)],
    "net.ipv4.tcp_max_syn_backlog": [(128, 8192)], "net.ipv4.tcp_rmem": [(4096, 8192), (87380, 131072), (262144, 67108864)],
    "net.ipv4.ip_local_port_range": [(10000, 32768), (50000, 65535)], "net.ipv4.neigh.default.gc_thresh1": [(128, 512)],
    "net.ipv4.neigh.default.gc_thresh2": [(512, 2048)], "net.ipv4.neigh.default.gc_thresh3": [(4096, 65536)],
    "net.ipv4.conf.all.arp_ignore": [(0, 1)], "net.ipv4.conf.lo.rp_filter": [(0, 2)],
}  # fmt: skip
THP = "/sys/kernel/mm/transparent_hugepage"
FILES = {
    f"{THP}/enabled": ("always", "madvise", "never"), f"{THP}/defrag": ("always", "defer", "defer+madvise", "madvise", "never"),
    f"{THP}/use_zero_page": ("0", "1"), f"{THP}/shmem_enabled": ("never", "advise", "within_size"),
    f"{THP}/khugepaged/defrag": ("0", "1"), "/sys/kernel/mm/ksm/merge_across_nodes": ("0", "1"),
    "/sys/devices/virtual/workqueue/cpumask": ("33", "0f", "ff"), "/proc/irq/default_smp_affinity": ("33", "ff"),
}  # fmt: skip
QUEUE = {
    "scheduler": ("none", "mq-deadline"),
    "read_ahead_kb": ("128", "512", "0"),
    "rq_affinity": ("0", "1", "2"),
    "nomerges": ("0", "1", "2"),
}
TUNE: dict[str, Any] = {
    "sysctl": {key: " ".join(str(low) for low, _ in parts) for key, parts in SYSCTLS.items()},
    "transparentHugepages": {"enabled": "madvise", "defrag": "madvise"},
    "kernelFiles": {
        "thpZeroPage": True,
        "thpShmem": "never",
        "ksmAcrossNodes": False,
        "workqueueCpus": "0-3",
        "defaultIrqCpus": "0-3",
    },
    "nvme": {"scheduler": "none", "readAheadKiB": 128, "rqAffinity": 1, "nomerges": 0},
    "pciPower": {"control": "on", "devices": ["nvme", "nic"]},
    "moduleOptions": {"nvme_core.io_timeout": 30},
    "hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 4}]},
    "limits": {"memlock": "infinity", "nofile": 1048576},
    "kernelArguments": {"skew_tick": 1, "iommu": "pt"},
}
FOLDERS = ("etc/{}", "etc/{}", "usr/lib/{}", "usr/local/lib/{}", "run/{}")
MARK = "zq"


def files(seed: int) -> dict[str, str]:
    """Files of one configuration by path. Names say that they are ours, in many places of the order."""
    dice = random.Random(seed)
    found: dict[str, str] = {}

    def add(kind: str, suffix: str, line: str) -> None:
        folder = dice.choice(FOLDERS).format(kind)
        path = f"/{folder}/{dice.choice(('00', '50', '99', 'zz'))}-{MARK}{dice.choice('abc')}.{suffix}"
        found[path] = found.get(path, "") + line + "\n"

    for key in SYSCTLS:
        for _ in range(dice.choice((0, 1, 1, 2, 3))):
            add("sysctl.d", "conf", _sysctl_line(dice, key))
    if dice.random() < 0.5:
        add("sysctl.d", "conf", f"net.ipv4.tcp_s*ck = {dice.choice('01')}")
    for path, texts in FILES.items():
        for _ in range(dice.choice((0, 1, 1, 2))):
            name = dice.choice((path, path, f'"{path}"'))
            add("tmpfiles.d", "conf", f"{dice.choice(('w', 'w', 'w!'))} {name} - - - - {dice.choice(texts)}")
    for _ in range(dice.randint(1, 5)):
        add("udev/rules.d", "rules", _rule(dice))
    for _ in range(dice.randint(0, 2)):
        add(
            "modprobe.d",
            "conf",
            f"options {dice.choice(('nvme_core', 'nvme-core'))} io_timeout={dice.choice((30, 60, 120))}",
        )
    for _ in range(dice.randint(0, 2)):
        add(
            "systemd/system.conf.d",
            "conf",
            f"[Manager]\nDefaultLimit{dice.choice(('MEMLOCK=64M', 'MEMLOCK=infinity', 'NOFILE=65536:524288'))}",
        )
    found[f"/etc/default/grub.d/{MARK}.cfg"] = f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {_line(dice)}"\n'
    return found


def _sysctl_line(dice: random.Random, key: str) -> str:
    numbers = [dice.randint(low, high) for low, high in SYSCTLS[key]]
    if key.endswith(("rmem", "range")):
        numbers.sort()
    texts = [hex(one) if dice.random() < 0.05 else str(one) for one in numbers]
    value = dice.choice((" ", "  ", "\t")).join(texts)
    if dice.random() < 0.05:
        # The kernel refuses it, and what came before stays.
        value = f'"{value}"'
    comment = dice.choice(("", "", "", " # site")) if len(numbers) == 1 else ""
    name = dice.choice((key, key, f"-{key}", key.replace(".", "/")))
    return f"{name}{dice.choice((' = ', '=', ' ='))}{value}{comment}"


def _rule(dice: random.Random) -> str:
    match = dice.choice((
        'ACTION=="add|change", KERNEL=="nvme*n1"', 'SUBSYSTEM=="block", KERNEL=="nvme[01]n*"', 'KERNEL=="nvme0n1"', 'KERNEL=="sd*"',
        'SUBSYSTEM=="block", KERNELS=="0000:21:00.0"', 'SUBSYSTEMS=="usb", KERNEL=="nvme*"', 'ACTION=="change", KERNEL=="nvme*"',
    ))  # fmt: skip
    name = dice.choice(list(QUEUE))
    if dice.random() < 0.25:
        return f'SUBSYSTEM=="pci", ATTR{{class}}=="0x010802", ATTR{{power/control}}="{dice.choice(("on", "auto"))}"'
    return f'{match}, ATTR{{queue/{name}}}="{dice.choice(QUEUE[name])}"'


def _line(dice: random.Random) -> str:
    words = [
        f"transparent_hugepage={dice.choice(('always', 'madvise', 'never', 'nonsense'))}",
        f"numa_balancing={dice.choice(('enable', 'disable'))}", f"sysctl.vm.swappiness={dice.randint(0, 100)}",
        f"nvme_core.io_timeout={dice.choice((45, 90))}", f"workqueue.unbound_cpus={dice.choice(('0-1', '0-3'))}",
        f"irqaffinity={dice.choice(('0-1', '0-3'))}", f"hugepages={dice.choice((8, 16, 24))}", "hugepages=0:4,1:8",
        f"hugepagesz=2M hugepages={dice.choice((6, 12))}", f"skew_tick={dice.choice((0, 1))}", "iommu=pt", "noautogroup",
    ]  # fmt: skip
    chosen = dice.sample(words, dice.randint(2, 7))
    # Two numbers for one pool are refused in ways of their own: one of them is enough.
    pools = [word for word in chosen if "hugepages=" in word]
    return " ".join(word for word in chosen if word not in pools[1:])
