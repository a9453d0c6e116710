"""Goodput of a command, or of processes that run already: watched once a second, and accounted for at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from tuneagent.contracts.goodput import Goodput, Loss
from tuneagent.errors import reason_of
from tuneagent.experiments.counters import Counter
from tuneagent.experiments.goodput_account import Account, Reading, account, added_up
from tuneagent.experiments.goodput_losses import GpuTally, host_losses, job_losses
from tuneagent.facts.host_name import machine_of
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.watch import GpuWatch
from tuneagent.host.job_counters import (
    ProcessCounters,
    added,
    cpus_of,
    host_counters,
    process_counters,
)
from tuneagent.host.machine import Host

# Counters of processes are read often at first, for short commands, then every few seconds: jobs have many threads.
_EVERY = 5
_OFTEN = 5
_PROCESSES_LIMIT = 256
_SPACING_S = 1.0


class Asked(NamedTuple):
    """What is counted, and what it is held against.

    `first` is where the counter stood; None for 0, and for a job that runs already for the first reading.
    """

    counter: Counter | None
    unit: str
    first: float | None = None
    adds_up: bool = False
    peak: float | None = None
    dollars_per_hour: float | None = None


class Watcher:
    """Follows a job. `line` and `tick` are called as it runs, `told` at its end.

    What processes that run `already` have counted before is left out.
    """

    def __init__(self, host: Host, asked: Asked, clock: Callable[[], float], already: Sequence[int] = ()) -> None:
        self._host = host
        self._asked = asked
        self._clock = clock
        self._began = clock()
        self._readings: list[Reading] = []
        self._cpu_s = (0.0, self._began)
        self._busy = 0.0
        self._seen: dict[tuple[int, int], ProcessCounters] = {}
        self._counted = added(())
        self._cpus: frozenset[int] = frozenset()
        self.trouble = ""
        self._first = asked.first if asked.first is not None or already else 0.0
        self._count(already)
        self._start = self._counted
        self._ticks = 0
        self._gpus, self._tally = GpuWatch(host), GpuTally()
        self._before = host_counters()

    def line(self, text: str) -> None:
        """One line of the job's output. Raises nothing: the job would end with it."""
        self._surely(lambda: self._line(text))

    def _surely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # what is watched is worth more than watching it
            self.trouble = reason_of(error)

    def _line(self, text: str) -> None:
        if self._asked.counter is not None and self._asked.counter.of_line is not None:
            self._note(self._asked.counter.of_line(text))

    def tick(self, pids: Callable[[], Sequence[int]]) -> None:
        """About a second has passed; `pids` looks for the job's processes. Raises nothing."""
        self._surely(lambda: self._tick(pids))

    def _tick(self, pids: Callable[[], Sequence[int]]) -> None:
        if self._asked.counter is not None and self._asked.counter.of_now is not None:
            self._note(self._asked.counter.of_now())
        self._ticks += 1
        if self._ticks <= _OFTEN or self._ticks % _EVERY == 0:
            self._count(pids())
        for gpus in self._gpus.samples():
            self._tally.add(gpus, self._busy)

    def _note(self, value: float | None) -> None:
        if value is None:
            return
        reading = Reading(self._clock() - self._began, value)
        grows = len(self._readings) > 1 and self._readings[-2].value <= self._readings[-1].value <= value
        if grows and not self._asked.adds_up and reading.at_s - self._readings[-2].at_s < _SPACING_S:
            # A job of weeks tells its progress millions of times.
            self._readings.pop()
        self._readings.append(reading)

    def _count(self, pids: Sequence[int]) -> None:
        read = [(pid, process_counters(pid)) for pid in pids[:_PROCESSES_LIMIT]]
        # A number may be given to another process later.
        alive = {(pid, found[0]): found[1] for pid, found in read if found is not None}
        # Threads that ended take their switches with them.
        self._seen |= {key: _at_least(self._seen.get(key), one) for key, one in alive.items()}
        now_alive, ever = added(alive.values()), added(self._seen.values())
        # What has ended counts for its parent, but for switches and moves, which the kernel forgets.
        self._counted = ProcessCounters(
            cpu_s=max(self._counted.cpu_s, now_alive.cpu_s),
            involuntary=ever.involuntary,
            minor_faults=max(self._counted.minor_faults, now_alive.minor_faults),
            major_faults=max(self._counted.major_faults, now_alive.major_faults),
            migrations=ever.migrations,
        )
        self._cpus |= cpus_of(pids[:_PROCESSES_LIMIT])
        used, now = self._counted.cpu_s, self._clock()
        self._busy = (used - self._cpu_s[0]) / max(now - self._cpu_s[1], 1e-3)
        self._cpu_s = (used, now)

    def told(self, subject: str, exit_code: int | None) -> Goodput:
        """All of it."""
        wall_s = max(self._clock() - self._began, 1e-6)
        if self._asked.counter is not None and self._asked.counter.of_now is not None:
            self._note(self._asked.counter.of_now())
        for gpus in [*self._gpus.samples(), *self._gpus.close()]:
            self._tally.add(gpus, self._busy)
        losses = [
            *self._tally.losses(),
            *host_losses(self._before, host_counters(), self._cpus, wall_s),
            *job_losses(self._start, self._counted, wall_s),
        ]
        readings = added_up(self._readings) if self._asked.adds_up else self._readings
        first = self._first if self._first is not None else (readings[0].value if readings else 0.0)
        done = account(readings, wall_s, 0.0 if self._asked.adds_up else first)
        return goodput_of(self._host, subject, exit_code, wall_s, self._asked, done, self._tally.joules, losses)

    def close(self) -> None:
        """End what watches, where nothing is told."""
        self._gpus.close()


def _at_least(before: ProcessCounters | None, now: ProcessCounters) -> ProcessCounters:
    if before is None or now.involuntary >= before.involuntary:
        return now
    return msgspec.structs.replace(now, involuntary=before.involuntary)


def goodput_of(
    host: Host,
    subject: str,
    exit_code: int | None,
    wall_s: float,
    asked: Asked,
    done: Account,
    joules: float | None,
    losses: Sequence[Loss],
) -> Goodput:
    """The document of what was counted."""
    rate = None if done.units is None else done.units / wall_s
    dollars = None if asked.dollars_per_hour is None else asked.dollars_per_hour * wall_s / 3600
    return Goodput(
        host=machine_of(Facts(host)),
        subject=subject,
        exit_code=exit_code,
        wall_seconds=wall_s,
        unit=asked.unit,
        units=done.units,
        per_second=rate,
        peak_per_second=asked.peak,
        efficiency=None if rate is None or asked.peak is None else rate / asked.peak,
        restarts=done.restarts,
        lost_units=done.lost,
        start_up_seconds=done.start_up_s,
        productive_share=None if done.productive_s is None else done.productive_s / wall_s,
        joules=joules,
        units_per_joule=done.units / joules if done.units is not None and joules else None,
        dollars=dollars,
        units_per_dollar=done.units / dollars if done.units is not None and dollars else None,
        losses=tuple(sorted(losses, key=lambda one: (one.unit != "%", -one.value))),
    )
