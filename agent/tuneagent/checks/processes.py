"""Rows of running GPU processes: what their container gives them, and how long they wait for a CPU."""

from __future__ import annotations

from collections.abc import Callable

from tuneagent.checks.environment import gpu_pids
from tuneagent.checks.rows import CheckRow, about, at_least, at_most
from tuneagent.contracts.values import Absent, Observation, Severity, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts

# A thread that has run for less than this has not run long enough for its waiting to mean anything.
_RAN_ENOUGH_NS = 1_000_000_000


def _of_each(read: Callable[[Facts, int], int | None]) -> Callable[[Facts], Observation]:
    """A number of each GPU process by `pid N`; a process that ended meanwhile is left out."""

    def observe(facts: Facts) -> Observation:
        if isinstance(facts.gpus, Unreadable):
            return facts.gpus
        pids = gpu_pids(facts)
        found: dict[str, int] = {}
        reasons: list[str] = []
        for pid in pids:
            try:
                number = read(facts, pid)
            except ReadFailed as error:
                reasons.append(str(error))
                continue
            if number is not None:
                found[f"pid {pid}"] = number
        if reasons and len(reasons) == len(pids):
            return Unreadable(f"{len(pids)} processes use a GPU, but none can be inspected from here: {reasons[0]}")
        return Value(found) if found else Absent("no process uses a GPU now, or none has run for a second")

    return observe


def _run_delay(facts: Facts, pid: int) -> int | None:
    """Per cent of its runnable time that the main thread has waited for a CPU, since it started."""
    ran, waited = facts.host.processes.run_delay(pid)
    return round(100 * waited / (ran + waited)) if ran + waited >= _RAN_ENOUGH_NS else None


ROWS: dict[str, CheckRow] = {
    "jobSharedMemoryMin": CheckRow(
        group="container runtime", read=_of_each(lambda facts, pid: facts.host.processes.shared_memory(pid)), right=at_least, kind=int | None,
        evidence="statvfs of /proc/<pid>/root/dev/shm",
        about=about(Severity.HIGH,
                    "data loaders and NCCL pass batches through /dev/shm; "
                    "a container's default of 64 MiB kills them with a bus error",
                    "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html",
                    "mount an emptyDir with medium Memory at /dev/shm, or use --shm-size"),
    ),
    "jobRunDelayMaxPercent": CheckRow(
        group="cpu", read=_of_each(_run_delay), right=at_most, kind=int | None, evidence="/proc/<pid>/schedstat",
        about=about(Severity.MEDIUM, "a thread that waits for its CPU launches nothing meanwhile; the limit is ours, no source names one",
                    "https://docs.kernel.org/scheduler/sched-stats.html",
                    "use `tuneagent run`, and CPUs that nobody else may use"),
    ),
}  # fmt: skip
