"""TuningPolicy `default`: limits for the whole cluster."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tuneagent.contracts.object_meta import ObjectMeta, StampedCondition
from tuneagent.contracts.tuning_profile import Count


class PolicySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Cluster-wide limits."""

    max_unavailable: Annotated[
        Count, msgspec.Meta(description="Governed nodes that may be down at once, for any reason.")
    ] = 1
    pause: Annotated[
        Literal["none", "rollouts", "all"],
        msgspec.Meta(description="rollouts: nothing new begins. all: agents write nothing."),
    ] = "none"
    approve: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=253)], ...],
        msgspec.Meta(description="Revisions that many nodes at once may lose.", max_length=100),
    ] = ()


class PolicyStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the operator says of the policy."""

    observed_generation: Annotated[int, msgspec.Meta(extra_json_schema={"format": "int64"})] = 0
    awaiting_approval: Annotated[tuple[str, ...], msgspec.Meta(extra_json_schema={"maxItems": 100})] = ()
    conditions: tuple[StampedCondition, ...] = ()


class TuningPolicy(msgspec.Struct, frozen=True):
    """TuningPolicy `default`. Its spec is kept as it is, so that each fault can be named."""

    metadata: ObjectMeta
    spec: dict[str, object] = {}
    status: PolicyStatus = PolicyStatus()
