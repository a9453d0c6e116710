"""One run of what an experiment measures: a user's command, probes, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tuneagent.errors import MeasureFailed, Unsupported, UsageError
from tuneagent.experiments.metrics import Metric
from tuneagent.experiments.probes import Case, Place, Probe
from tuneagent.experiments.probing import cases_named, probe_named, run_once
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.host.measured import run_measured
from tuneagent.host.signals import time_limit

_TAIL = 600
# An expression such as (a+)+$ may try for longer than anyone waits.
_READ_LIMIT_S = 5.0


class Probed(NamedTuple):
    """One case of a probe as a metric."""

    probe: Probe
    case: Case

    @property
    def metric(self) -> Metric:
        """Its name and direction."""
        return Metric(f"{self.probe.name}: {self.case.name}", self.probe.better)


class Subject(NamedTuple):
    """What is measured: a command (empty for none) with what is read of it, and probes."""

    command: str
    read: Sequence[Metric]
    command_limit_s: float
    probed: Sequence[Probed] = ()

    @property
    def metrics(self) -> list[Metric]:
        """All numbers of a run."""
        return [*self.read, *(one.metric for one in self.probed)]


def probed_cases(names: Sequence[str], facts: Facts, place: Place) -> list[Probed]:
    """Cases of probes that this host can measure, each tried once. A name may have `:CASE` behind it.

    Raises UsageError for a name that is not known, and for a probe of which nothing can be measured here.
    """
    found: list[Probed] = []
    for given in dict.fromkeys(names):
        found += _measurable(*probe_named(given), facts, place)
    return found


def _measurable(probe: Probe, wanted: str, facts: Facts, place: Place) -> list[Probed]:
    reason = ""
    found: list[Probed] = []
    try:
        chosen = cases_named(probe, wanted, facts, place)
        for case in chosen:
            try:
                run_once(probe, case)
                found.append(Probed(probe, case))
            except Unsupported as error:
                reason = str(error)
    except Unsupported as error:
        reason = str(error)
    if not found:
        raise UsageError(f"--probe {probe.name}: {reason}")
    return found


def measurer(subject: Subject, stop: Callable[[], bool]) -> Callable[[], dict[str, float]]:
    """A function that makes one run. It raises MeasureFailed, and KeyboardInterrupt once `stop` says so."""
    files = Files("/")

    def measure() -> dict[str, float]:
        found = _of_command(subject, files, stop) if subject.command else {}
        for one in subject.probed:
            if stop():
                raise KeyboardInterrupt
            try:
                found[one.metric.name] = run_once(one.probe, one.case)[1]
            except Unsupported as error:
                raise MeasureFailed(f"{one.metric.name}: {error}") from None
        return found

    return measure


def _of_command(subject: Subject, files: Files, stop: Callable[[], bool]) -> dict[str, float]:
    before = _written_at(files, subject.read)
    done = run_measured(subject.command, subject.command_limit_s, stop)
    if done.code != 0:
        said = done.output.strip()[-_TAIL:] or "it said nothing"
        how = f"exited {done.code}" if done.code > 0 else f"was ended by signal {-done.code}"
        raise MeasureFailed(f"the command {how}: {said}")
    after = _written_at(files, subject.read)
    stale = next((path for path, at in after.items() if at == before[path]), None)
    if stale is not None:
        raise MeasureFailed(f"the command did not write /{stale}")
    return {one.name: _read(one, done.output, files) for one in subject.read}


def _read(metric: Metric, output: str, files: Files) -> float:
    late = MeasureFailed(f"metric {metric.name}: no answer within {_READ_LIMIT_S:g} s: make the expression simpler")
    with time_limit(_READ_LIMIT_S, late):
        return metric.of(output, files.read)


def _written_at(files: Files, metrics: Sequence[Metric]) -> dict[str, int]:
    """When each file that a metric is read from was written last; 0 for one that is not there."""
    paths = [one.name.partition(":")[2].lstrip("/") for one in metrics if one.name.startswith("file:")]
    return {path: files.status(path).st_mtime_ns if files.exists(path) else 0 for path in paths}
