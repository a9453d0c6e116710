"""What is written to the API server: patches, and objects of Kubernetes itself that one of us makes."""

from __future__ import annotations

import msgspec


class Version(msgspec.Struct, frozen=True, rename="camel"):
    """The version of the object that a write is based on; the write is only valid for that version."""

    resource_version: str


class Patch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON merge patch (RFC 7386) of one of our own objects: the fields that change, each whole."""

    metadata: Version | msgspec.UnsetType = msgspec.UNSET
    spec: dict[str, object] | msgspec.UnsetType = msgspec.UNSET
    status: dict[str, object] | msgspec.UnsetType = msgspec.UNSET


class NodePatchMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Annotations to set; null removes one."""

    annotations: dict[str, str | None]
    resource_version: str


class NodePatchSpec(msgspec.Struct, frozen=True):
    """Whether new pods are kept away; null removes the field."""

    unschedulable: bool | None


class NodePatch(msgspec.Struct, frozen=True):
    """A JSON merge patch of a Node."""

    metadata: NodePatchMeta
    spec: NodePatchSpec


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """Name, and where it matters namespace and labels."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}


class Eviction(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """policy/v1."""

    api_version: str = "policy/v1"
    kind: str = "Eviction"
    metadata: Named


class NewConfigMap(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """v1."""

    api_version: str = "v1"
    kind: str = "ConfigMap"
    metadata: Named
    data: dict[str, str]


class ConfigMapPatch(msgspec.Struct, frozen=True):
    """A JSON merge patch of a ConfigMap."""

    metadata: Version
    data: dict[str, str]


class NewRevision(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """apps/v1 ControllerRevision. `data` is a profile's document."""

    api_version: str = "apps/v1"
    kind: str = "ControllerRevision"
    metadata: Named
    revision: int
    data: dict[str, object]


class EventMeta(msgspec.Struct, frozen=True, rename="camel"):
    """The API server completes the name."""

    generate_name: str
    namespace: str = "default"


class Involved(msgspec.Struct, frozen=True, rename="camel"):
    """What an Event is about."""

    api_version: str
    kind: str
    name: str


class EventSource(msgspec.Struct, frozen=True):
    """Who says it."""

    component: str
    host: str


class Event(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """v1. Times are RFC 3339, in UTC."""

    api_version: str = "v1"
    kind: str = "Event"
    metadata: EventMeta
    involved_object: Involved
    reason: str
    message: str
    type: str
    source: EventSource
    reporting_component: str
    reporting_instance: str
    first_timestamp: str
    last_timestamp: str
    count: int = 1


def body(found: msgspec.Struct) -> dict[str, object]:
    """An object as it is sent."""
    plain: dict[str, object] = msgspec.to_builtins(found)
    return plain
