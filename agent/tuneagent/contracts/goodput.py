"""Goodput: useful work per time, as a share of the possible, and where the rest went."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.report import HostName

SCHEMA_GOODPUT = "tuneagent.dev/goodput/v1"


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the node can see and that takes time."""

    name: Annotated[str, Meta(description="What it is.")]
    value: Annotated[float, Meta(description="How much.")]
    unit: Annotated[str, Meta(description="Unit of the value: `%` of the time, or a count a second.")]
    source: Annotated[str, Meta(description="File or call that it was read from.")]


class Goodput(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `goodput -o json` prints. What is not known is null."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_GOODPUT
    host: HostName
    subject: Annotated[str, Meta(description="The command, or the process that was watched.")]
    exit_code: Annotated[int | None, Meta(description="How the command ended; null for a process that was watched.")]
    wall_seconds: Annotated[float, Meta(description="Time from its start, or from that of the watch, to the end.")]
    unit: Annotated[str, Meta(description="Name of what is counted.")]
    units: Annotated[float | None, Meta(description="Useful units; null where none was read.")]
    per_second: Annotated[float | None, Meta(description="Useful units for each second.")]
    peak_per_second: Annotated[float | None, Meta(description="What is possible, as given.")]
    efficiency: Annotated[float | None, Meta(description="Useful units a second over the possible ones: a share.")]
    restarts: Annotated[int, Meta(description="How often the counter fell back.")]
    lost_units: Annotated[float, Meta(description="Units that were done again after a restart.")]
    start_up_seconds: Annotated[float | None, Meta(description="Time until the first progress.")]
    productive_share: Annotated[
        float | None,
        Meta(description="Time that the useful units take at the typical rate, as a share of all: the ETTR."),
    ]
    joules: Annotated[float | None, Meta(description="Energy of all GPUs meanwhile; null without a GPU that tells it.")]
    units_per_joule: float | None
    dollars: Annotated[float | None, Meta(description="Price of the time, if one was given.")]
    units_per_dollar: float | None
    losses: Annotated[tuple[Loss, ...], Meta(description="What the node saw, the largest share first.")]
