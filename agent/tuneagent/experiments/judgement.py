"""How sure it is that one arm is better than the other. Pure; the statistics are scipy's.

A block has two runs of each arm in an order such as ABBA, so that a steady drift counts for both alike. What is judged
is the logarithm of tuned over baseline, one value for each block.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tuneagent.contracts.proof import Better, MetricProof, Verdict

# Numbers of blocks at which is looked whether it is settled; each look spends an equal part of the error.
LOOKS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# Chance of a difference told where there is none, over all looks and metrics.
ERROR = 0.02
RUNS_OF_BLOCK = 4
# Logarithm of the largest number that is told.
_LARGEST = 700.0
_NO_SPREAD = 1e-12


class Block(NamedTuple):
    """What one metric was in the two runs of each arm."""

    baseline: tuple[float, float]
    tuned: tuple[float, float]

    @property
    def effect(self) -> float:
        """Logarithm of the ratio."""
        return sum(math.log(one) for one in self.tuned) / 2 - sum(math.log(one) for one in self.baseline) / 2


class Judged(NamedTuple):
    """An interval of the ratio, the noise, and what follows from them; `more_runs` is None where it is settled."""

    ratio: float
    low: float
    high: float
    noise: float
    verdict: Verdict | None
    more_runs: int | None


def judge(blocks: Sequence[Block], better: Better, metrics: int, margin: float) -> Judged:
    """Judge one of `metrics` metrics after these blocks, at least two.

    `margin` is the smallest difference that matters, as a share: an interval within it is no difference.
    """
    effects = [block.effect for block in blocks]
    mean, half = _interval(effects, _between_runs(blocks), ERROR / len(LOOKS) / metrics)
    verdict = _verdict(mean, half, better, margin)
    more = None if verdict is not None else _more_runs(len(blocks), mean, half, math.log1p(margin))
    return _judged(mean, half, _noise(_pairs(blocks)), verdict, more)


def judge_apart(before: Sequence[float], after: Sequence[float], better: Better, metrics: int, margin: float) -> Judged:
    """Judge one of `metrics` metrics by runs of two times, at least two each: Welch's interval of the log ratio.

    What changed between the two times beside the thing in question counts for it.
    """
    from scipy import stats

    one, other = ([math.log(value) for value in values] for values in (after, before))
    least = _resolution((*before, *after)) ** 2 / 12
    variances = [_dependence(values) * max(statistics.variance(values), least) / len(values) for values in (one, other)]
    mean, spread = statistics.fmean(one) - statistics.fmean(other), math.sqrt(sum(variances))
    half = 0.0
    if spread > _NO_SPREAD:
        freedom = sum(variances) ** 2 / sum(
            part**2 / (len(values) - 1) for part, values in zip(variances, (one, other), strict=True)
        )
        half = float(stats.t.isf(ERROR / metrics / 2, freedom)) * spread
    verdict = _verdict(mean, half, better, margin)
    more = None if verdict is not None else _more_runs(len(one), mean, half, math.log1p(margin)) // RUNS_OF_BLOCK
    noise = _noise([pair for values in (before, after) for pair in itertools.pairwise(values)])
    return _judged(mean, half, noise, verdict, more)


def _resolution(values: Sequence[float]) -> float:
    """The smallest step between these numbers, as a share: what is told in few digits is no more certain than that."""
    distinct = sorted(set(values))
    return min((math.log(more / less) for less, more in itertools.pairwise(distinct)), default=0.0)


def proof_of(
    name: str, better: Better, baseline: Sequence[float], tuned: Sequence[float], judged: Judged
) -> MetricProof:
    """What is told of one metric, from the runs of both arms."""
    return MetricProof(
        name=name,
        better=better,
        baseline=median(baseline),
        tuned=median(tuned),
        ratio=judged.ratio,
        low=judged.low,
        high=judged.high,
        noise=judged.noise,
        runs=len(baseline) + len(tuned),
        more_runs=judged.more_runs,
        verdict=judged.verdict or "too noisy",
    )


def _dependence(values: Sequence[float]) -> float:
    """By how much the variance of a mean grows because each run resembles the one before it (lag one)."""
    mean = statistics.fmean(values)
    all_of_it = sum((value - mean) ** 2 for value in values)
    if all_of_it <= _NO_SPREAD:
        return 1.0
    share = sum((one - mean) * (other - mean) for one, other in itertools.pairwise(values)) / all_of_it
    share = min(max(share, 0.0), 0.9)
    return (1 + share) / (1 - share)


def _verdict(mean: float, half: float, better: Better, margin: float) -> Verdict | None:
    """What an interval around the mean of log ratios tells; None where it tells nothing."""
    edge = math.log1p(margin)
    if abs(mean) + half < edge:
        # Perhaps real, and too small to matter.
        return "no difference"
    if abs(mean) > half:
        return "better" if (mean > 0) == (better == "higher") else "worse"
    return None


def _judged(mean: float, half: float, noise: float, verdict: Verdict | None, more: int | None) -> Judged:
    ratio, least, most = (math.exp(min(one, _LARGEST)) for one in (mean, mean - half, mean + half))
    return Judged(ratio, least, most, noise, verdict, more)


def _pairs(blocks: Sequence[Block]) -> list[tuple[float, float]]:
    """Runs of the same arm in the same block."""
    return [pair for block in blocks for pair in (block.baseline, block.tuned)]


def _between_runs(blocks: Sequence[Block]) -> float:
    """Variance of an effect by what runs of the same arm in the same block differ."""
    pairs = _pairs(blocks)
    return sum(math.log(one / other) ** 2 for one, other in pairs) / (2 * len(pairs))


def _interval(effects: Sequence[float], least: float, error: float) -> tuple[float, float]:
    """Mean and half the width of its interval.

    The variance is at least what runs of the same kind differ by: numbers of few digits make equal blocks by chance.
    """
    from scipy import stats

    mean = sum(effects) / len(effects)
    spread = math.sqrt(max(sum((one - mean) ** 2 for one in effects) / (len(effects) - 1), least))
    # Differences of the last digits of a number are no spread.
    if spread <= _NO_SPREAD:
        return mean, 0.0
    return mean, float(stats.t.isf(error / 2, len(effects) - 1)) * spread / math.sqrt(len(effects))


def _noise(pairs: Sequence[tuple[float, float]]) -> float:
    """Typical share by which two runs of one arm differ: the median."""
    return median(math.expm1(min(abs(math.log(one / other)), _LARGEST)) for one, other in pairs)


def _more_runs(count: int, mean: float, half: float, edge: float) -> int:
    """Runs after which the interval would be narrow enough to tell, if effect and noise stay as they are."""
    wanted = max(abs(mean), edge - abs(mean), edge / 8)
    needed = math.ceil(count * (half / wanted) ** 2)
    return RUNS_OF_BLOCK * max(needed - count, 1)
