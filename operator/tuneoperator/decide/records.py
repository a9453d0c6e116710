"""Slim records of cluster objects: decoded straight from the wire, everything else dropped."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from tuneagent.contracts.tuning_profile import Count


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Parts of metadata that decisions need."""

    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class Condition(msgspec.Struct, frozen=True):
    """A condition: of a Node or a pod as read, of one of our objects as it should be."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


def is_ready(conditions: list[Condition]) -> bool:
    """Whether the condition Ready is known to hold."""
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


class NodeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What the kubelet says of the machine."""

    boot_id: str = msgspec.field(default="", name="bootID")
    machine_id: str = msgspec.field(default="", name="machineID")


class NodeSpec(msgspec.Struct, frozen=True):
    """Scheduling state."""

    unschedulable: bool = False


class NodeStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Health and identity."""

    conditions: list[Condition] = []
    node_info: NodeInfo = NodeInfo()


class Node(msgspec.Struct, frozen=True):
    """A Node."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether the kubelet is known to be ready."""
        return is_ready(self.status.conditions)


class TuningProfile(msgspec.Struct, frozen=True):
    """A TuningProfile; its spec is checked by `tuneagent.tuning_profile`."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """Leave to make one plan's changes, in one boot of the node. `epoch` tells two grants of one plan apart."""

    digest: str
    disruption: str
    lifetime_s: int = msgspec.field(name="lifetime_s")
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: int = 0


class Taken(msgspec.Struct, frozen=True, rename="camel"):
    """The grant that an agent is at work on. It takes it before its first write and clears this with its answer."""

    digest: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: int = 0


class NodeTuningSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What the operator wants of a node."""

    profile: str = ""
    revision: str = ""
    desired: str = "Profile"
    machine_id: str = ""
    grant: Grant | None = None


class Proposal(msgspec.Struct, frozen=True):
    """What the agent would do if it were granted."""

    digest: str = ""
    disruption: str = ""
    changes: int = 0


class AgentStatus(msgspec.Struct, frozen=True, rename="camel"):
    """`status.node`, which the agent alone writes."""

    observed_generation: int = 0
    revision: str = ""
    baseline: bool = False
    version: str = ""
    boot_id: str = ""
    error: str = ""
    # Why this node will not do what is named: waiting mends nothing.
    refusal: str = ""
    tunables: list[str] = []
    # Live changes that its profile wants and that are not made.
    left: int = 0
    pending: Proposal | None = None
    taken: Taken | None = None


class RolloutStatus(msgspec.Struct, frozen=True, rename="camel"):
    """`status.rollout`, which the operator alone writes. `target` is the revision that the phase is about."""

    phase: str = "Waiting"
    since: float = 0.0
    attempts: int = 0
    reason: str = ""
    target: str = ""
    previous: str = ""


class NodeTuningStatus(msgspec.Struct, frozen=True):
    """Two owners, two parts."""

    node: AgentStatus = AgentStatus()
    rollout: RolloutStatus = RolloutStatus()


class NodeTuning(msgspec.Struct, frozen=True):
    """A NodeTuning."""

    metadata: Meta
    spec: NodeTuningSpec = NodeTuningSpec()
    status: NodeTuningStatus = NodeTuningStatus()


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


class TuningPolicy(msgspec.Struct, frozen=True):
    """TuningPolicy `default`; its spec is checked by `policy.policy_of`."""

    metadata: Meta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class LedgerMap(msgspec.Struct, frozen=True):
    """The ConfigMap that holds the ledger."""

    metadata: Meta
    data: dict[str, str] = {}


class AgentPodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Where the pod runs."""

    node_name: str = ""


class AgentPodStatus(msgspec.Struct, frozen=True):
    """Whether it is ready."""

    conditions: list[Condition] = []


class AgentPod(msgspec.Struct, frozen=True):
    """A pod of the agent's DaemonSet."""

    metadata: Meta
    spec: AgentPodSpec = AgentPodSpec()
    status: AgentPodStatus = AgentPodStatus()

    @property
    def ready(self) -> bool:
        """Whether its containers are ready."""
        return is_ready(self.status.conditions)
