"""NodeTuning: what the operator wants of one node, and what that node says. Each side writes only its own part."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tuneagent.contracts.object_meta import NewMeta, ObjectMeta, StampedCondition

KIND = "NodeTuning"
MESSAGE_LIMIT = 1000
FINDINGS_LIMIT = 50
TUNABLES_LIMIT = 500


def _schema(**more: object) -> msgspec.Meta:
    """Limits that only the API server enforces: a reader must not fail on an object of another version."""
    return msgspec.Meta(extra_json_schema=more)


# Classes of change that need a grant.
DISRUPTIONS = ("service", "kubelet", "gpu", "reboot")
GrantedDisruption = Annotated[str, _schema(enum=list(DISRUPTIONS))]
Message = Annotated[str, _schema(maxLength=MESSAGE_LIMIT)]
Epoch = Annotated[int, _schema(format="int64")]


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """`spec.grant`: permission to make one plan's changes, in one boot. `epoch` tells two grants of one plan apart."""

    digest: str = ""
    disruption: GrantedDisruption = ""
    lifetime_seconds: int = 0
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: Epoch = 0


class NodeTuningSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What the operator wants of a node."""

    profile: str = ""
    revision: str = ""
    desired: Annotated[str, _schema(enum=["Profile", "Baseline"])] = "Profile"
    machine_id: str = msgspec.field(default="", name="machineID")
    grant: Grant | None = None


class Taken(msgspec.Struct, frozen=True, rename="camel"):
    """`status.node.taken`: the grant that an agent is working on.

    It takes it before its first write and clears this with its answer.
    """

    digest: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: Epoch = 0


class ProposalSummary(msgspec.Struct, frozen=True):
    """`status.node.proposal`: what the agent would do if it were granted."""

    digest: str = ""
    disruption: GrantedDisruption = ""
    changes: int = 0


class FindingSummary(msgspec.Struct, frozen=True):
    """One finding that is not as wanted, in short."""

    tunable: str
    subject: str
    verdict: str
    severity: str
    found: str = ""
    wanted: str = ""
    reason: str = ""


class AgentReport(msgspec.Struct, frozen=True, rename="camel"):
    """The part of `status.node` that decisions are made from. The agent alone writes it."""

    observed_generation: Epoch = 0
    revision: str = ""
    baseline: bool = False
    version: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    error: Message = ""
    # Why this node refuses to do what is named: waiting does not help.
    refusal: Message = ""
    tunables: Annotated[tuple[str, ...], _schema(maxItems=TUNABLES_LIMIT)] = ()
    # Settings that are not as wanted, or not known to be, and wait for no grant.
    not_as_wanted: int = 0
    proposal: ProposalSummary | None = None
    taken: Taken | None = None


class NodeReport(AgentReport, frozen=True, rename="camel"):
    """`status.node` as a whole: for people, findings too."""

    paused: bool = False
    summary: dict[str, int] | None = None
    findings: Annotated[tuple[FindingSummary, ...], _schema(maxItems=FINDINGS_LIMIT)] | None = None


class RolloutStatus(msgspec.Struct, frozen=True, rename="camel"):
    """`status.rollout`, which the operator alone writes. `target` is the revision that the phase is about.

    `since` is in seconds since 1970.
    """

    phase: str = "Waiting"
    since: float = 0.0
    attempts: int = 0
    reason: Message = ""
    target: str = ""
    previous: str = ""


class NodeTuningStatus(msgspec.Struct, frozen=True):
    """Two owners, two parts."""

    node: AgentReport = AgentReport()
    rollout: RolloutStatus = RolloutStatus()


class NodeTuning(msgspec.Struct, frozen=True):
    """A NodeTuning as the operator keeps it."""

    metadata: ObjectMeta
    spec: NodeTuningSpec = NodeTuningSpec()
    status: NodeTuningStatus = NodeTuningStatus()


class OwnStatus(msgspec.Struct, frozen=True):
    """The agent's view of its own status."""

    node: NodeReport = NodeReport()


class OwnTuning(msgspec.Struct, frozen=True):
    """A NodeTuning as the agent of its node reads it."""

    metadata: ObjectMeta
    spec: NodeTuningSpec = NodeTuningSpec()
    status: OwnStatus = OwnStatus()


class FullStatus(msgspec.Struct, frozen=True):
    """All of `status`: what the CRD is generated from."""

    node: NodeReport = NodeReport()
    rollout: RolloutStatus = RolloutStatus()
    conditions: tuple[StampedCondition, ...] = ()


class NewNodeTuning(msgspec.Struct, frozen=True, rename="camel"):
    """A NodeTuning to be created."""

    metadata: NewMeta
    spec: NodeTuningSpec
    api_version: str = "tuneagent.dev/v1alpha1"
    kind: Literal["NodeTuning"] = "NodeTuning"
