"""One trial: blocks of runs with and without a profile, until every metric is settled or the time is up."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tuneagent.contracts.proof import MetricProof
from tuneagent.errors import BaselineFailed, MeasureFailed
from tuneagent.experiments.judgement import LOOKS, RUNS_OF_BLOCK, Block, Judged, judge, proof_of
from tuneagent.experiments.metrics import Metric

_WORDS = {"A": "without", "B": "with"}
_ORDERS = ("ABBA", "BAAB")
_FEWEST_BLOCKS = LOOKS[0]
# So many metrics are named in a sentence.
_NAMED = 3


class Arms(Protocol):
    """The two states of a host: `A` without the profile, `B` with it."""

    def switch(self, arm: str) -> None:
        """Bring the host to this state and verify it. Raises MeasureFailed where that cannot be done."""

    def verify(self, arm: str) -> None:
        """Raise MeasureFailed unless the host is still in this state: the command may have changed it."""


class Limits(NamedTuple):
    """When a trial ends at the latest, and the smallest difference that matters, as a share."""

    time_s: float
    margin: float


class Progress(NamedTuple):
    """How far a trial is: blocks that are done, and what is known of the first metric."""

    blocks: int
    name: str
    judged: Judged | None


Measure = Callable[[], Mapping[str, float]]


def run_trial(
    arms: Arms,
    measure: Measure,
    metrics: Sequence[Metric],
    limits: Limits,
    *,
    clock: Callable[[], float],
    choose: random.Random,
    tell: Callable[[Progress], None],
) -> list[MetricProof]:
    """Measure in blocks of random order until all is settled. The host is left as it was, whatever happens."""
    began = clock()
    blocks: dict[str, list[Block]] = {metric.name: [] for metric in metrics}
    try:
        arms.switch("A")
        # The first run warms caches that no later run finds cold.
        _run(arms, measure, "A")
        started = clock()
        for number in range(1, LOOKS[-1] + 1):
            for name, block in _one_block(arms, measure, metrics, choose.choice(_ORDERS)).items():
                blocks[name].append(block)
            judged = _judged(metrics, blocks, limits.margin) if number >= _FEWEST_BLOCKS else []
            tell(Progress(number, metrics[0].name, judged[0] if judged else None))
            is_settled = number in LOOKS and all(one.verdict is not None for one in judged)
            # Not begun what would not end in time: half a block says nothing.
            is_late = clock() - began + (clock() - started) / number > limits.time_s
            if number >= _FEWEST_BLOCKS and (is_settled or is_late):
                break
    finally:
        arms.switch("A")
    return [
        _proof(metric, blocks[metric.name], one)
        for metric, one in zip(metrics, _judged(metrics, blocks, limits.margin), strict=True)
    ]


def _one_block(arms: Arms, measure: Measure, metrics: Sequence[Metric], order: str) -> dict[str, Block]:
    seen: dict[str, list[Mapping[str, float]]] = {"A": [], "B": []}
    for arm in order:
        arms.switch(arm)
        seen[arm].append(_run(arms, measure, arm))
    return {
        one.name: Block(
            (seen["A"][0][one.name], seen["A"][1][one.name]), (seen["B"][0][one.name], seen["B"][1][one.name])
        )
        for one in metrics
    }


def _run(arms: Arms, measure: Measure, arm: str) -> Mapping[str, float]:
    """One run in an arm that the command must leave as it is."""
    try:
        found = measure()
        arms.verify(arm)
    except MeasureFailed as error:
        failed = BaselineFailed if arm == "A" else MeasureFailed
        raise failed(f"{_WORDS[arm]} the profile: {error}") from None
    return found


def _judged(metrics: Sequence[Metric], blocks: Mapping[str, Sequence[Block]], margin: float) -> list[Judged]:
    return [judge(blocks[one.name], one.better, len(metrics), margin) for one in metrics]


def _proof(metric: Metric, blocks: Sequence[Block], judged: Judged) -> MetricProof:
    baseline, tuned = (
        [one for block in blocks for one in block.baseline],
        [one for block in blocks for one in block.tuned],
    )
    return proof_of(metric.name, metric.better, baseline, tuned, judged)


def decide(proofs: Sequence[MetricProof]) -> tuple[bool, str]:
    """Whether a profile is kept, and why: something is better, and nothing is worse."""
    worse = [one.name for one in proofs if one.verdict == "worse"]
    better = [one.name for one in proofs if one.verdict == "better"]
    if worse:
        return False, f"{_listed(worse)} {'is' if len(worse) == 1 else 'are'} worse with it"
    if better:
        return True, f"{_listed(better)} {'is' if len(better) == 1 else 'are'} better with it, nothing is worse"
    noisy = [one for one in proofs if one.verdict == "too noisy"]
    if noisy:
        names = _listed([one.name for one in noisy])
        return False, f"{names}: too noisy to tell; {more_runs(max(one.more_runs or 0 for one in noisy))}"
    return False, "no difference"


def more_runs(count: int) -> str:
    """How far it is from being settled."""
    if count > RUNS_OF_BLOCK * LOOKS[-1]:
        return "no experiment is long enough to settle it: measure something longer or steadier"
    return f"about {count} more runs would settle it"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
