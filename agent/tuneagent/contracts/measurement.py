"""A host measured at one time, to be compared with another time: across a reboot, or with a new node image."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.proof import Better, MetricProof
from tuneagent.contracts.report import HostName

SCHEMA_MEASUREMENT = "tuneagent.dev/measurement/v1"
SCHEMA_AGAIN = "tuneagent.dev/measured-again/v1"


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One number of each run."""

    name: Annotated[str, Meta(description="Where it is read, or the probe with its case.")]
    better: Annotated[Better, Meta(description="Which direction is an improvement.")]
    values: Annotated[tuple[float, ...], Meta(description="One for each run, in their order.")]


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What `prove --once before` writes."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_MEASUREMENT
    host: HostName
    taken: Annotated[float, Meta(description="When it began, in seconds since 1970.")]
    command: Annotated[str, Meta(description="The command; empty where only probes were run.")]
    metrics: Annotated[tuple[Series, ...], Meta(description="One for each metric.")]


class MeasuredAgain(msgspec.Struct, frozen=True, kw_only=True):
    """What `prove --once after` and `prove --against` print. Ratios are now over before."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_AGAIN
    host: HostName
    before: Annotated[HostName, Meta(description="The host of the measurement that this one is held against.")]
    taken: Annotated[float, Meta(description="When that one was taken, in seconds since 1970.")]
    metrics: Annotated[tuple[MetricProof, ...], Meta(description="Those that both have.")]
    missing: Annotated[tuple[str, ...], Meta(description="Metrics that only one of them has.")]
