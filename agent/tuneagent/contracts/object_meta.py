"""What every object of Kubernetes and every one of ours has: metadata and conditions."""

from __future__ import annotations

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Parts of metadata that decisions need."""

    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    """The object that another one goes with."""

    api_version: str
    kind: str
    name: str
    uid: str


class NewMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Metadata of an object to be created."""

    name: str
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """A condition: of a Node or a pod as read, of one of our objects as it should be."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class StampedCondition(Condition, frozen=True, rename="camel"):
    """A condition in the status of one of our objects. The time is RFC 3339, in UTC."""

    last_transition_time: str | None = None
    observed_generation: int = 0
