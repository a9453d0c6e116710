"""What probes measured on a host."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.contracts.proof import Better
from tuneagent.contracts.report import HostName

SCHEMA_PROBES = "tuneagent.dev/probes/v1"
Outcome = Literal["measured", "unsupported", "failed"]


class Distribution(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All samples of one case."""

    samples: Annotated[int, Meta(description="How many there are.")]
    least: Annotated[float, Meta(description="Smallest.")]
    p50: Annotated[float, Meta(description="Median.")]
    p90: Annotated[float, Meta(description="90th percentile.")]
    p99: Annotated[float, Meta(description="99th percentile.")]
    p999: Annotated[float, Meta(description="99.9th percentile.")]
    most: Annotated[float, Meta(description="Largest.")]


class CaseResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One case of a probe, such as one CPU or one pair of nodes."""

    name: Annotated[str, Meta(description="What was measured: a CPU, a node, a kind of pages, a GPU.")]
    outcome: Outcome
    reason: Annotated[str, Meta(description="Why it was not measured; empty where it was.")] = ""
    value: Annotated[float | None, Meta(description="The probe's statistic: the median over its repeats.")] = None
    noise: Annotated[
        float | None,
        Meta(description="Typical relative difference of the statistic between two repeats: 0.02 is two percent."),
    ] = None
    repeats: Annotated[int, Meta(description="How often it was measured, without the first, which warms up.")] = 0
    distribution: Distribution | None = None


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One probe with all of its cases."""

    name: Annotated[str, Meta(description="Name of the probe.")]
    title: Annotated[str, Meta(description="What it measures.")]
    unit: Annotated[str, Meta(description="Unit of the statistic.")]
    sample_unit: Annotated[str, Meta(description="Unit of the samples.")]
    better: Annotated[Better, Meta(description="Which direction is better.")]
    statistic: Annotated[str, Meta(description="What of the samples of a repeat counts.")]
    outcome: Outcome
    reason: Annotated[str, Meta(description="Why nothing was measured; empty where something was.")] = ""
    cases: tuple[CaseResult, ...] = ()


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `probe run -o json` prints."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_PROBES
    host: HostName
    processor: Annotated[str | None, Meta(description="Model of its CPUs.")]
    probes: tuple[ProbeResult, ...]
