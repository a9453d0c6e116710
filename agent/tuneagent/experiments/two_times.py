"""The same measured at two times: before and after a reboot, or a recorded host and today's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from tuneagent.contracts.measurement import SCHEMA_MEASUREMENT, MeasuredAgain, Measurement, Series
from tuneagent.contracts.proof import MetricProof
from tuneagent.contracts.report import HostName
from tuneagent.errors import UsageError
from tuneagent.experiments.judgement import judge_apart, proof_of
from tuneagent.experiments.metrics import Metric, is_usable
from tuneagent.formats.spoken_values import in_words

# Runs that count, without the first, which warms up; fewer where the time is up.
RUNS = 16
_FEWEST, _MOST = 4, 10_000
# Runs begin this far apart if there is time: the load of a machine changes from second to second, and what is measured
# within one of them says little about the next.
_APART_S = 4.0


def measured(
    measure: Callable[[], Mapping[str, float]],
    metrics: Sequence[Metric],
    time_s: float,
    *,
    clock: Callable[[], float],
    wait: Callable[[float], None],
    tell: Callable[[int], None],
) -> tuple[Series, ...]:
    """Runs until there are enough, or the time is up. Raises MeasureFailed and KeyboardInterrupt."""
    began = clock()
    apart_s = min(_APART_S, time_s / (RUNS + 1))
    measure()
    found: list[Mapping[str, float]] = []
    while len(found) < RUNS and (len(found) < _FEWEST or clock() - began < time_s):
        wait(max((len(found) + 1) * apart_s - (clock() - began), 0.0))
        found.append(measure())
        tell(len(found))
    return tuple(
        Series(name=one.name, better=one.better, values=tuple(run[one.name] for run in found)) for one in metrics
    )


def read_measurement(data: bytes, where: str) -> Measurement:
    """A document that `--once before` wrote. Raises UsageError."""
    try:
        found = msgspec.json.decode(data, type=Measurement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: not a measurement of `tuneagent prove --once before`: {error}") from None
    if found.schema != SCHEMA_MEASUREMENT:
        raise UsageError(f"{where}: expected schema {SCHEMA_MEASUREMENT}, found {in_words(found.schema)}")
    names = [one.name for one in found.metrics]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"{where}: expected metrics, each of them once")
    if any(not _FEWEST <= len(one.values) <= _MOST or not all(map(is_usable, one.values)) for one in found.metrics):
        raise UsageError(f"{where}: each metric needs {_FEWEST} to {_MOST} values, all above 0 and below 1e100")
    return found


def refuse_strangers(before: Measurement, command: str, metrics: Sequence[Metric]) -> None:
    """Raise UsageError where a measurement has none of these metrics, or was made in another way."""
    known, asked = ([one.name for one in each] for each in (before.metrics, metrics))
    if not set(known) & set(asked):
        raise UsageError(f"nothing to compare: the file holds {'; '.join(known)}, and you ask for {'; '.join(asked)}")
    if command and before.command != command:
        raise UsageError(f"the file was measured with another command: {before.command or 'none'}")
    directions = {one.name: one.better for one in before.metrics}
    turned = [one.name for one in metrics if directions.get(one.name, one.better) != one.better]
    if turned:
        raise UsageError(f"--better: the file says {directions[turned[0]]} of {turned[0]}")


def compare(before: Measurement, host: HostName, now: Sequence[Series], margin: float) -> MeasuredAgain:
    """Now over before, metric by metric."""
    known = {one.name: one for one in before.metrics}
    both = [(known[one.name], one) for one in now if one.name in known]
    return MeasuredAgain(
        host=host,
        before=before.host,
        taken=before.taken,
        metrics=tuple(_compared(one, other, len(both), margin) for one, other in both),
        missing=tuple(sorted({*known} ^ {one.name for one in now})),
    )


def _compared(before: Series, now: Series, metrics: int, margin: float) -> MetricProof:
    found = judge_apart(before.values, now.values, now.better, metrics, margin)
    return proof_of(now.name, now.better, before.values, now.values, found)
