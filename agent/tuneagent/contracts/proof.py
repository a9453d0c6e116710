"""What an experiment found: a profile against the host without it, metric by metric."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_PROOF = "tuneagent.dev/proof/v1"
Better = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "no difference", "too noisy"]


class MetricProof(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One metric. Ratios are tuned over baseline."""

    name: Annotated[str, Meta(description="Where the metric is read: the expression, path or file that was given.")]
    better: Annotated[Better, Meta(description="Which direction is an improvement.")]
    baseline: Annotated[float | None, Meta(description="Median without the profile.")]
    tuned: Annotated[float | None, Meta(description="Median with the profile.")]
    ratio: Annotated[float | None, Meta(description="Tuned over baseline: the geometric mean over the blocks.")]
    low: Annotated[float | None, Meta(description="Lower end of the ratio's interval.")]
    high: Annotated[float | None, Meta(description="Upper end of the ratio's interval.")]
    noise: Annotated[
        float | None,
        Meta(description="Typical relative difference of two runs of the same arm, as a share: 0.02 is two percent."),
    ]
    runs: Annotated[int, Meta(description="Runs of the command, both arms together.")]
    more_runs: Annotated[
        int | None, Meta(description="How many more runs would settle it, judged by the noise so far; null if settled.")
    ]
    verdict: Verdict


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The experiment as a whole, as `prove -o json` prints it."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_PROOF
    host: Annotated[str, Meta(description="Name of the host.")]
    profile: Annotated[str, Meta(description="Name of the profile.")]
    settings: Annotated[int, Meta(description="How many settings the profile changes on this host.")]
    metrics: Annotated[tuple[MetricProof, ...], Meta(description="One for each metric.")]
    kept: Annotated[bool, Meta(description="Whether the profile is applied now.")]
    why: Annotated[str, Meta(description="Why it is kept or not.")]
