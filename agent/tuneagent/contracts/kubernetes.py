"""Objects of Kubernetes itself, as far as both sides read or write them. Everything else of them is dropped."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.object_meta import Condition, ObjectMeta


def is_ready(conditions: tuple[Condition, ...]) -> bool:
    """Whether the condition Ready is known to hold."""
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


class NodeInfo(msgspec.Struct, frozen=True):
    """What the kubelet says of the machine."""

    boot_id: str = msgspec.field(default="", name="bootID")
    machine_id: str = msgspec.field(default="", name="machineID")


class NodeSpec(msgspec.Struct, frozen=True):
    """Scheduling state."""

    unschedulable: bool = False


class NodeStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Health and identity."""

    conditions: tuple[Condition, ...] = ()
    node_info: NodeInfo = NodeInfo()


class Node(msgspec.Struct, frozen=True):
    """A Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether the kubelet is known to be ready."""
        return is_ready(self.status.conditions)


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Where a pod runs."""

    node_name: str = ""


class PodStatus(msgspec.Struct, frozen=True):
    """Whether a pod is ready."""

    conditions: tuple[Condition, ...] = ()


class AgentPod(msgspec.Struct, frozen=True):
    """A pod of the agent's DaemonSet."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether its containers are ready."""
        return is_ready(self.status.conditions)


class Owner(msgspec.Struct, frozen=True):
    """Kind of the object that a pod belongs to."""

    kind: str = ""


class WorkloadMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Whose pod it is."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()


class Resources(msgspec.Struct, frozen=True):
    """What a container asks for and may have, by name of the resource."""

    limits: dict[str, object] = {}
    requests: dict[str, object] = {}


class Container(msgspec.Struct, frozen=True):
    """One container of a pod."""

    resources: Resources = Resources()


class WorkloadSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What a pod holds of its node."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resource_claims: tuple[object, ...] = ()


class WorkloadStatus(msgspec.Struct, frozen=True):
    """Whether a pod still runs."""

    phase: str = ""


class WorkloadPod(msgspec.Struct, frozen=True):
    """Any pod of a node, as far as a disruption concerns it."""

    metadata: WorkloadMeta = WorkloadMeta()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class WorkloadPods(msgspec.Struct, frozen=True):
    """A list of pods."""

    items: tuple[WorkloadPod, ...]


class LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Who leads; one made by hand may not say."""

    holder_identity: str | None = None
    acquire_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, frozen=True):
    """A Lease of coordination.k8s.io."""

    metadata: ObjectMeta
    spec: LeaseSpec | None = None


class ConfigMap(msgspec.Struct, frozen=True):
    """A ConfigMap."""

    metadata: ObjectMeta
    data: dict[str, str] = {}


def merge_patch(before: msgspec.Struct, after: msgspec.Struct) -> dict[str, object]:
    """What a JSON merge patch (RFC 7386) must say to bring `before` to `after`, two objects of one type.

    The fields that differ, each whole; null removes one.
    """
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return {key: value for key, value in new.items() if old[key] != value}
