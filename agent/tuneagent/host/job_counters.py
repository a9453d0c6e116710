"""What the kernel counts for a job and for its host: switches, faults, migrations, pressure, interrupts."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable

import msgspec


class ProcessCounters(msgspec.Struct, frozen=True):
    """Of one process since it began; CPU time and faults with those of its children that have ended."""

    cpu_s: float
    involuntary: int
    minor_faults: int
    major_faults: int
    migrations: int | None


class HostCounters(msgspec.Struct, frozen=True):
    """Of the host since it booted; what it does not count is missing.

    `stalled_us` is by kind of pressure, `remote_pages` were taken from another node than wanted, `interrupts` by CPU.
    """

    stalled_us: dict[str, int]
    remote_pages: int | None
    interrupts: dict[int, int]


def tree_of(pid: int) -> list[int]:
    """A process and all that it started."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return []
        return [pid, *(one.pid for one in process.children(recursive=True))]
    except psutil.Error:
        return []


def in_cgroup(name: str) -> list[int]:
    """Processes whose cgroup has a part of that name, such as `job_17`, without this one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and name in re.split(r"[/\n]", _text(f"/proc/{entry}/cgroup")):
            found.append(int(entry))
    return found


def process_counters(pid: int) -> tuple[int, ProcessCounters] | None:
    """When the process started, in ticks since the boot, and its counters. None for a process that is gone."""
    stat = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(stat) < 20:
        return None
    threads = [f"/proc/{pid}/task/{thread}" for thread in _names(f"/proc/{pid}/task")]
    involuntary = sum(
        int(match.group(1))
        for thread in threads
        if (match := re.search(r"nonvoluntary_ctxt_switches:\s*(\d+)", _text(f"{thread}/status")))
    )
    told = [_text(f"{thread}/sched") for thread in threads]
    moved = [int(one) for text in told for one in re.findall(r"nr_migrations\s*:\s*(\d+)", text)]
    return int(stat[19]), ProcessCounters(
        cpu_s=sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK"),
        involuntary=involuntary,
        minor_faults=int(stat[7]) + int(stat[8]),
        major_faults=int(stat[9]) + int(stat[10]),
        migrations=sum(moved) if moved else None,
    )


def host_counters() -> HostCounters:
    """Now."""
    stalled = {}
    for kind in ("cpu", "memory", "io"):
        for name, total in re.findall(r"^(some|full) .*total=(\d+)", _text(f"/proc/pressure/{kind}"), re.MULTILINE):
            stalled[f"{kind} {name}"] = int(total)
    remote = re.search(r"^numa_other (\d+)", _text("/proc/vmstat"), re.MULTILINE)
    return HostCounters(stalled, int(remote.group(1)) if remote else None, _interrupts(_text("/proc/interrupts")))


def _interrupts(text: str) -> dict[int, int]:
    """Interrupts of devices by CPU: rows with a number. The kernel's own, such as its timer, have names."""
    head, _, rest = text.partition("\n")
    cpus = [int(word.removeprefix("CPU")) for word in head.split() if word.startswith("CPU")]
    totals = dict.fromkeys(cpus, 0)
    for line in rest.splitlines():
        name, _, counts = line.partition(":")
        if name.strip().isdigit():
            for cpu, count in zip(cpus, counts.split(), strict=False):
                totals[cpu] += int(count) if count.isdigit() else 0
    return totals


def cpus_of(pids: Iterable[int]) -> frozenset[int]:
    """CPUs that any of these processes may use."""
    found: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found |= os.sched_getaffinity(pid)
    return frozenset(found)


def added(each: Collection[ProcessCounters]) -> ProcessCounters:
    """All processes together."""
    moved = [one.migrations for one in each if one.migrations is not None]
    return ProcessCounters(
        cpu_s=sum(one.cpu_s for one in each),
        involuntary=sum(one.involuntary for one in each),
        minor_faults=sum(one.minor_faults for one in each),
        major_faults=sum(one.major_faults for one in each),
        migrations=sum(moved) if moved else None,
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
