"""Where the time went, from what the kernel and NVML count: samples to losses. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.goodput import Loss
from tuneagent.gpu.samples import GpuSample
from tuneagent.host.job_counters import HostCounters, ProcessCounters

# nvmlClocksEventReasons that lower clocks under load.
_REASONS = {
    0x4: "power limit", 0x8: "hardware slowdown", 0x20: "heat (driver)", 0x40: "heat (hardware)", 0x80: "power brake",
}  # fmt: skip
# A GPU that does less, while the job computes on the CPU, waits for its input.
_IDLE_PERCENT = 50
_BUSY_CPUS = 0.5


class GpuTally:
    """Samples of all GPUs, added up."""

    def __init__(self) -> None:
        self._first: dict[str, GpuSample] = {}
        self._last: dict[str, GpuSample] = {}
        self._samples = 0
        self._idle = 0.0
        self._starved = 0
        self._slowed = dict.fromkeys(_REASONS, 0)

    def add(self, gpus: list[GpuSample], cpus_busy: float) -> None:
        """One second, in which the job used so many CPUs."""
        for one in gpus:
            self._first.setdefault(one.uuid, one)
            self._last[one.uuid] = one
            if one.busy_percent is None:
                continue
            self._samples += 1
            self._idle += 100 - one.busy_percent
            self._starved += one.busy_percent < _IDLE_PERCENT and cpus_busy > _BUSY_CPUS
            for bit in _REASONS:
                self._slowed[bit] += bool((one.reasons or 0) & bit)

    @property
    def joules(self) -> float | None:
        """Energy between the first and the last sample; None where no GPU tells it."""
        spent = [
            (self._last[uuid].energy_mj or 0) - one.energy_mj
            for uuid, one in self._first.items()
            if one.energy_mj is not None
        ]
        return sum(spent) / 1000 if spent else None

    def losses(self) -> list[Loss]:
        """Idle time, waiting for input, slowed clocks, and errors of links."""
        if not self._samples:
            return []
        source = "NVML, one sample a second"
        found = [
            Loss(name="GPUs idle", value=self._idle / self._samples, unit="%", source=source),
            Loss(name="GPUs waiting for the CPU", value=100 * self._starved / self._samples, unit="%", source=source),
        ]
        found += [
            Loss(
                name=f"GPU clocks lowered: {_REASONS[bit]}", value=100 * count / self._samples, unit="%", source=source
            )
            for bit, count in self._slowed.items()
            if count
        ]
        errors = sum(
            (self._last[uuid].link_errors or 0) - one.link_errors
            for uuid, one in self._first.items()
            if one.link_errors is not None
        )
        if errors:
            found.append(Loss(name="errors of NVLinks", value=float(errors), unit="in all", source="NVML"))
        return found


def job_losses(before: ProcessCounters, after: ProcessCounters, wall_s: float) -> list[Loss]:
    """Of the job's own processes."""
    moved = None if after.migrations is None else after.migrations - (before.migrations or 0)
    rows: list[tuple[str, float | None, str]] = [
        ("involuntary switches", float(after.involuntary - before.involuntary), "/proc/PID/task/*/status"),
        ("moves to another CPU", None if moved is None else float(moved), "/proc/PID/sched"),
        ("page faults that read from a disk", float(after.major_faults - before.major_faults), "/proc/PID/stat"),
        ("page faults", float(after.minor_faults - before.minor_faults), "/proc/PID/stat"),
    ]
    return [
        Loss(name=name, value=value / wall_s, unit="each second", source=source)
        for name, value, source in rows
        if value
    ]


def host_losses(before: HostCounters, after: HostCounters, cpus: frozenset[int], wall_s: float) -> list[Loss]:
    """Of the host meanwhile, whoever caused it."""
    found = []
    for kind, total in after.stalled_us.items():
        share = 100 * (total - before.stalled_us.get(kind, total)) / 1e6 / wall_s
        what, who = kind.split()
        of = "some tasks" if who == "some" else "all tasks"
        if share >= 0.1:
            found.append(Loss(name=f"{of} waiting for {what}", value=share, unit="%", source=f"/proc/pressure/{what}"))
    if before.remote_pages is not None and after.remote_pages is not None and after.remote_pages > before.remote_pages:
        pages = (after.remote_pages - before.remote_pages) / wall_s
        found.append(Loss(name="pages from another node", value=pages, unit="each second", source="/proc/vmstat"))
    counts = _more(before.interrupts, after.interrupts, cpus)
    if counts:
        found.append(
            Loss(
                name="interrupts of devices on its CPUs",
                value=counts / wall_s,
                unit="each second",
                source="/proc/interrupts",
            )
        )
    return found


def _more(before: Mapping[int, int], after: Mapping[int, int], cpus: frozenset[int]) -> int:
    return sum(after[cpu] - before.get(cpu, 0) for cpu in cpus & frozenset(after))
