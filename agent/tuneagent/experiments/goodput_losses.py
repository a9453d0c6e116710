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


class _Growth:
    """By how much counters of several GPUs have grown; a reading that failed is left out."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, int]] = {}

    def note(self, uuid: str, value: int | None) -> None:
        """One reading."""
        if value is not None:
            first, _, count = self._seen.get(uuid, (value, value, 0))
            self._seen[uuid] = (first, value, count + 1)

    @property
    def total(self) -> int | None:
        """Of all that were read twice; None for none."""
        grown = [max(last - first, 0) for first, last, count in self._seen.values() if count > 1]
        return sum(grown) if grown else None


class GpuTally:
    """Samples of all GPUs, added up."""

    def __init__(self) -> None:
        self._energy, self._links = _Growth(), _Growth()
        self._samples = 0
        self._idle = 0.0
        self._starved = 0
        self._slowed = dict.fromkeys(_REASONS, 0)

    def add(self, gpus: list[GpuSample], cpus_busy: float) -> None:
        """One second, in which the job used so many CPUs."""
        for one in gpus:
            self._energy.note(one.uuid, one.energy_mj)
            self._links.note(one.uuid, one.link_errors)
            if one.busy_percent is None:
                continue
            self._samples += 1
            self._idle += 100 - one.busy_percent
            self._starved += one.busy_percent < _IDLE_PERCENT and cpus_busy > _BUSY_CPUS
            for bit in _REASONS:
                self._slowed[bit] += bool((one.reasons or 0) & bit)

    @property
    def joules(self) -> float | None:
        """Energy between the first and the last sample; None where no GPU tells it twice."""
        spent = self._energy.total
        return None if spent is None else spent / 1000

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
        errors = self._links.total
        if errors:
            found.append(Loss(name="errors of NVLinks", value=float(errors), unit="in all", source="NVML"))
        return found


def job_losses(before: ProcessCounters, after: ProcessCounters, wall_s: float) -> list[Loss]:
    """Of the job's own processes."""
    moved = None if after.migrations is None else after.migrations - (before.migrations or 0)
    rows: list[tuple[str, float | None, str]] = [
        ("involuntary switches", float(after.involuntary - before.involuntary), "/proc/PID/task/*/status"),
        ("moves to another CPU", None if moved is None else float(moved), "/proc/PID/task/*/sched"),
        ("page faults that read from a disk", float(after.major_faults - before.major_faults), "/proc/PID/stat"),
        ("page faults", float(after.minor_faults - before.minor_faults), "/proc/PID/stat"),
    ]
    return [
        Loss(name=name, value=value / wall_s, unit="each second", source=source)
        for name, value, source in rows
        if value and value > 0
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
