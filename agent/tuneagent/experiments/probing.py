"""A probe run on a host: each case warmed up, repeated, and told with its distribution and its own noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import median

from tuneagent.contracts.probe import CaseResult, Distribution, ProbeResult
from tuneagent.errors import MeasureFailed, Unsupported, UsageError, nearest
from tuneagent.experiments.probes import PROBES, Case, Place, Probe
from tuneagent.facts.one_pass import Facts
from tuneagent.host.kernels import Samples, latency_limit, run_kernel

REPEATS = 5
# No new repeat of a probe begins after this; each case is measured twice in any case.
LIMIT_S = 60.0
_FEWEST = 2
# No new case begins after this.
_MOST_S = 180.0
_RUN_LIMIT_S = 60.0


def probe_named(given: str) -> tuple[Probe, str]:
    """A probe by NAME or NAME:CASE, and the case; empty for all. Raises UsageError."""
    name, _, case = given.partition(":")
    known = {one.name: one for one in PROBES}
    if name not in known:
        raise UsageError(f"no probe {name!r}{nearest(name, list(known))}; `tuneagent probe list` shows them")
    return known[name], case.strip()


def cases_named(probe: Probe, wanted: str, facts: Facts, place: Place) -> list[Case]:
    """All cases, or the one of that name. Raises Unsupported, and UsageError for a name that it does not have."""
    cases = probe.cases(facts, place)
    chosen = [one for one in cases if wanted in ("", one.name)]
    if not chosen:
        raise UsageError(f"probe {probe.name}: no case {wanted!r}; it has {'; '.join(one.name for one in cases)}")
    return chosen


def run_probe(
    probe: Probe,
    facts: Facts,
    place: Place,
    *,
    clock: Callable[[], float],
    tell: Callable[[str], None],
    wanted: str = "",
) -> ProbeResult:
    """Measure every case that the host has, or one. What cannot be measured says why, and the rest goes on."""
    try:
        cases = cases_named(probe, wanted, facts, place)
    except Unsupported as error:
        return _result(probe, (), str(error))
    share = LIMIT_S / max(len(cases), 1)
    found = []
    end = clock() + _MOST_S
    for case in cases:
        tell(f"{probe.name}: {case.name}")
        if clock() > end:
            late = f"not measured: {len(cases)} cases take more than {_MOST_S:g} s; name it to measure it alone"
            found.append(CaseResult(name=case.name, outcome="unsupported", reason=late))
        else:
            found.append(_case(probe, case, clock, share))
    return _result(probe, tuple(found), "")


def run_once(probe: Probe, case: Case) -> tuple[Samples, float]:
    """One run of a kernel: its samples in the probe's unit, and the statistic. Raises Unsupported, MeasureFailed."""
    with latency_limit(case.latency_us):
        raw = run_kernel(probe.kernel, case.arguments, _RUN_LIMIT_S)
    found = Samples(tuple(one * probe.scale for one in raw.samples), raw.value)
    return found, statistic(probe, found)


def statistic(probe: Probe, found: Samples) -> float:
    """What of one repeat's samples counts. Raises MeasureFailed."""
    if probe.statistic == "sum":
        if found.value is None:
            raise MeasureFailed(f"{probe.name}: the kernel told no sum")
        # The clock tells no less, and a CPU that loses nothing can still be compared.
        return max(found.value, 1.0)
    if not found.samples:
        raise MeasureFailed(f"{probe.name}: no sample")
    return quantile(sorted(found.samples), float(probe.statistic.removeprefix("p")) / 100)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the sorted values do not exceed."""
    # 0.999 of 1,000 is 999, not the float above it.
    return values[max(math.ceil(share * len(values) - 1e-9) - 1, 0)]


def _case(probe: Probe, case: Case, clock: Callable[[], float], share_s: float) -> CaseResult:
    every, counted = list[float](), list[float]()
    began = clock()
    try:
        run_once(probe, case)
        while len(counted) < REPEATS and (len(counted) < _FEWEST or clock() - began < share_s):
            samples, value = run_once(probe, case)
            every += samples.samples
            counted.append(value)
    except Unsupported as error:
        return CaseResult(name=case.name, outcome="unsupported", reason=str(error))
    except MeasureFailed as error:
        return CaseResult(name=case.name, outcome="failed", reason=str(error))
    return CaseResult(
        name=case.name,
        outcome="measured",
        value=median(counted),
        noise=noise_of(counted),
        repeats=len(counted),
        distribution=distribution_of(every),
    )


def noise_of(values: Sequence[float]) -> float:
    """Typical relative difference of two repeats, one after the other."""
    return median(max(one, other) / min(one, other) - 1 for one, other in itertools.pairwise(values))


def distribution_of(samples: Sequence[float]) -> Distribution | None:
    """The distribution of all samples; None for a CPU from which nothing was taken."""
    if not samples:
        return None
    values = sorted(samples)
    p50, p90, p99, p999 = (quantile(values, share) for share in (0.5, 0.9, 0.99, 0.999))
    return Distribution(samples=len(values), least=values[0], p50=p50, p90=p90, p99=p99, p999=p999, most=values[-1])


def _result(probe: Probe, cases: tuple[CaseResult, ...], reason: str) -> ProbeResult:
    outcomes = {one.outcome for one in cases}
    return ProbeResult(
        name=probe.name,
        title=probe.title,
        unit=probe.unit,
        sample_unit=probe.other_unit or probe.unit,
        better=probe.better,
        statistic=probe.statistic,
        outcome="measured" if "measured" in outcomes else "failed" if "failed" in outcomes else "unsupported",
        reason=reason,
        cases=cases,
    )
