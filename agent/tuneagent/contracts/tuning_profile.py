"""TuningProfile: the document that people write, on a host and in a cluster."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.contracts.node_selector import NodeSelector
from tuneagent.contracts.object_meta import ObjectMeta, StampedCondition

API_VERSION = "tuneagent.dev/v1alpha1"
KIND = "TuningProfile"


class Accept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A waiver: this finding is known and accepted, why, and until when."""

    tunable: Annotated[str, Meta(description="The tunable of the finding.")]
    subject: Annotated[str, Meta(description="The setting within its tunable.")]
    reason: Annotated[str, Meta(description="Why it is accepted; the report shows it.")]
    until: Annotated[date | None, Meta(description="Last day of the waiver.")] = None


# A count, or per cent of the nodes: a whole number up to 100.
PERCENT = r"^(100|[0-9]{1,2})%$"
Count = Annotated[int, Meta(ge=0, le=100_000)] | Annotated[str, Meta(pattern=PERCENT, max_length=4)]
Number = Annotated[int, Meta(ge=0, le=100_000)]
Seconds = Annotated[int, Meta(ge=0, le=30 * 86400)]
Priority = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How a node is emptied before a disruptive change."""

    mode: Annotated[
        Literal["whenIdle", "cordonAndWait", "evict"],
        Meta(
            description="whenIdle: wait until no pod would be killed, then cordon. cordonAndWait: cordon, then wait. "
            "evict: cordon and evict, as PodDisruptionBudgets allow."
        ),
    ] = "whenIdle"
    timeout_seconds: Annotated[
        Seconds, Meta(description="Seconds to wait for a node to become empty before giving up.")
    ] = 86400


class RolloutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How many nodes may change at once. Counts, or per cent of the selected nodes."""

    max_unavailable: Annotated[Count, Meta(description="Selected nodes that may be down at once, for any reason.")] = 1
    max_parallel_live: Annotated[Count, Meta(description="Nodes that may be changing at once.")] = "10%"
    max_unhealthy: Annotated[Count, Meta(description="If more nodes are not ready, nothing new begins.")] = "10%"
    canary: Annotated[Number, Meta(description="Nodes that go first; the others wait until these are done.")] = 1
    soak_seconds: Annotated[
        Seconds, Meta(description="Seconds that a changed node is watched before it counts as done.")
    ] = 300
    failure_threshold: Annotated[Number, Meta(description="Once this many nodes have failed, nothing new begins.")] = 1
    drain: Drain = Drain()


class ProfileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The `spec` of a profile. `tune` is checked apart, tunable by tunable."""

    extends: Annotated[
        tuple[str, ...], Meta(description="Built-in or other profiles that this one adds to; a later one wins.")
    ] = ()
    node_selector: Annotated[
        NodeSelector,
        Meta(description="In a cluster, the labels of the nodes that this profile is for. Empty selects no node."),
    ] = NodeSelector()
    all_nodes: Annotated[
        bool, Meta(description="In a cluster, true selects every node; then nodeSelector must be empty.")
    ] = False
    priority: Annotated[
        Priority, Meta(description="In a cluster, the profile of the highest priority governs a node.")
    ] = 0
    tune: Annotated[dict[str, object], Meta(description="Settings wanted, by tunable.")] = {}
    accept: Annotated[tuple[Accept, ...], Meta(description="Findings that are known and accepted.")] = ()
    drift: Annotated[
        Literal["report", "repair", "freeze"] | None,
        Meta(
            description="What the daemon does where a setting is not as wanted. report: say so and write nothing. "
            "repair: write it again. freeze: write nothing at all, new revisions of the profile included. "
            "Default: report on a host, repair in a cluster. The commands `apply` and `undo` ignore it."
        ),
    ] = None
    rollout: RolloutSpec = RolloutSpec()


class NodeCounts(msgspec.Struct, frozen=True, rename="camel"):
    """Nodes of a rollout by what they are doing; `unknown` are those that do not respond."""

    selected: int = 0
    done: int = 0
    in_flight: int = 0
    failed: int = 0
    waiting: int = 0
    unknown: int = 0


class ProfileStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the operator says of a profile."""

    observed_generation: Annotated[int, Meta(extra_json_schema={"format": "int64"})] = 0
    revision: str = ""
    nodes: NodeCounts = NodeCounts()
    conditions: tuple[StampedCondition, ...] = ()


class DocumentName(msgspec.Struct, frozen=True):
    """Metadata of a profile as people write it."""

    name: str


class ProfileDocument(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A profile as a document, whole: what a file holds, and what a ControllerRevision keeps."""

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: DocumentName
    spec: dict[str, object]


def document_of(name: str, spec: dict[str, object]) -> dict[str, object]:
    """The document of a profile, as plain data."""
    document = ProfileDocument(metadata=DocumentName(name), spec=spec)
    plain: dict[str, object] = msgspec.to_builtins(document)
    return plain


class TuningProfile(msgspec.Struct, frozen=True):
    """A TuningProfile in a cluster. Its spec is kept as it is, so that each fault can be named."""

    metadata: ObjectMeta
    spec: dict[str, object] = {}
    status: ProfileStatus = ProfileStatus()
