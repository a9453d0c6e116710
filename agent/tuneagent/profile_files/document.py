"""TuningProfile: parse, find every fault, extend, resolve. Knows no tunable; their types are handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar, get_args, get_origin

import msgspec

from tuneagent.contracts.node_selector import NodeSelector
from tuneagent.contracts.report import ProfileName
from tuneagent.contracts.tuning_profile import API_VERSION, KIND, Count, ProfileSpec
from tuneagent.errors import ProfileInvalid, nearest
from tuneagent.formats.lazy_regex import lazy_regex

NAME_PATTERN = lazy_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\Z")


T = TypeVar("T", bound=msgspec.Struct)


class Profile(msgspec.Struct, frozen=True):
    """A profile as written, or resolved: then `origins` says where each tunable's spec came from."""

    name: str
    spec: ProfileSpec
    origins: dict[str, str] = {}
    # For a built-in profile: the revision that it has once resolved, and the spec that the revision is for.
    shipped: str = ""
    resolved_spec: ProfileSpec | None = None

    @property
    def revision(self) -> str:
        """Hash of what decides a node's settings: tune, accept and drift. Ten hexadecimal digits."""
        if self.shipped and self.resolved_spec is self.spec:
            return self.shipped
        # OpenSSL, which it brings, takes 3 % of an audit's time to load.
        import hashlib

        content = [self.spec.tune, self.spec.accept, self.spec.drift]
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:10]

    @property
    def identity(self) -> ProfileName:
        """Name and revision."""
        return ProfileName(self.name, self.revision)


def parse(document: object, source: str = "profile") -> Profile:
    """Profile of a plain document. Raises ProfileInvalid with every fault outside `tune`."""
    faults: list[str] = []
    if not isinstance(document, dict):
        raise ProfileInvalid(["not a mapping with apiVersion, kind, metadata and spec"], source)
    if document.get("apiVersion") != API_VERSION:
        faults.append(f"apiVersion: {document.get('apiVersion')!r}, wanted {API_VERSION!r}")
    if document.get("kind") != KIND:
        faults.append(f"kind: {document.get('kind')!r}, wanted {KIND!r}")
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    faults += [f"{key}: unknown{nearest(str(key), known)}" for key in document if key not in known]
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not NAME_PATTERN.match(name):
        faults.append(f"metadata.name: {name!r} is not a DNS label of at most 63 characters")
    raw = document.get("spec")
    if not isinstance(raw, dict):
        faults.append("spec: missing, or not a mapping")
        raise ProfileInvalid(faults, source)
    spec = parse_fields(raw, ProfileSpec, "spec", faults)
    selector = spec.get("node_selector")
    if spec.get("all_nodes") and isinstance(selector, NodeSelector) and not selector.is_empty:
        faults.append("spec.allNodes: true selects every node already; remove it, or remove nodeSelector")
    if faults:
        raise ProfileInvalid(faults, source)
    return Profile(str(name), built(ProfileSpec, spec))


def built(kind: type[T], fields: Mapping[str, object]) -> T:
    """A structure of fields that `parse_fields` has converted."""
    return kind(**fields)


def parse_fields(
    raw: Mapping[str, object], kind: type[msgspec.Struct], path: str, faults: list[str]
) -> dict[str, object]:
    """Convert field by field, so that one fault does not hide the next."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for key, value in raw.items():
        field = fields.get(key)
        if field is None:
            faults.append(f"{path}.{key}: unknown{nearest(str(key), tuple(fields))}")
            continue
        found[field.name] = _parse_field(value, field.type, f"{path}.{key}", faults)
    for field in fields.values():
        if field.required and field.encode_name not in raw:
            faults.append(f"{path}.{field.encode_name}: missing")
    return found


def _parse_field(value: object, kind: object, path: str, faults: list[str]) -> object:
    """One field; a structure in it field by field again."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if bare is NodeSelector:
        from tuneagent.profile_files.selector import parse_selector

        return parse_selector(value, path, faults)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct) and isinstance(value, dict):
        before = len(faults)
        inner = parse_fields(value, bare, path, faults)
        return built(bare, inner) if len(faults) == before else None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if bare == Count:
            faults.append(f"{path}: {value!r} is neither a count nor a percentage up to 100%")
        else:
            faults.append(_told(path, value, kind, error))
        return None


def _told(path: str, value: object, kind: object, error: msgspec.ValidationError) -> str:
    # A profile without faults needs none of it.
    from tuneagent.profile_files.fault_words import fault_of

    return fault_of(path, value, kind, error)


def convert_spec(raw: object, kind: object, path: str, faults: list[str]) -> object:
    """Typed spec of one tunable, or None with its faults added."""
    if not isinstance(raw, dict):
        faults.append(f"{path}: expected a mapping, got {raw!r}")
        return None
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        # Something is wrong: each field, or each row of a table, is checked for its own fault.
        before = len(faults)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        found = parse_fields(raw, kind, path, faults)
        return built(kind, found) if len(faults) == before else None
    for key, value in raw.items():
        try:
            msgspec.convert({key: value}, kind)
        except msgspec.ValidationError as error:
            row = get_args(kind)[1] if get_origin(kind) is dict else kind
            inner = msgspec.ValidationError(str(error).replace("`$[...]", "`$", 1).replace(" - at `$`", ""))
            faults.append(_told(f"{path}.{key}", value, row, inner))
    return None
