"""TuningProfile: parse, find every fault, extend, resolve. Knows no tunable; their types are handed in."""

from __future__ import annotations

import difflib
import hashlib
import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from tuneagent.errors import ProfileInvalid, UsageError
from tuneagent.model import ProfileName
from tuneagent.node_selector import NodeSelector, parse_selector
from tuneagent.pattern import pattern

API_VERSION = "tuneagent.dev/v1alpha1"
KIND = "TuningProfile"
NAME_PATTERN = pattern(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\Z")
EXTENDS_LIMIT = 16
# Tunables whose spec is a map of independent names: a later profile adds to it. All others are replaced whole.
MERGED_BY_NAME = ("sysctl", "kernelArguments", "services", "checks", "gpuHealth", "moduleOptions", "cgroupSlices")


class Accept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A waiver: this finding is known and accepted, why, and until when."""

    tunable: str
    subject: str
    reason: str
    until: date | None = None


# A count, or per cent of the nodes: a whole number up to 100.
PERCENT = r"^(100|[0-9]{1,2})%$"
Count = Annotated[int, Meta(ge=0, le=100_000)] | Annotated[str, Meta(pattern=PERCENT, max_length=4)]
Number = Annotated[int, Meta(ge=0, le=100_000)]
Seconds = Annotated[int, Meta(ge=0, le=30 * 86400)]
Priority = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node is emptied before a disruptive change."""

    mode: Annotated[
        Literal["whenIdle", "cordonAndWait", "evict"],
        Meta(
            description="whenIdle: wait until no pod would be killed, then cordon. cordonAndWait: cordon, then wait. "
            "evict: cordon and evict, as PodDisruptionBudgets allow."
        ),
    ] = "whenIdle"
    timeout_s: Annotated[Seconds, Meta(description="Seconds after which a node that is not empty is given up.")] = 86400


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many nodes may change at once. Counts, or per cent of the selected nodes."""

    maxUnavailable: Annotated[  # noqa: N815 - the name in the YAML document
        Count, Meta(description="Selected nodes that may be down at once, for any reason.")
    ] = 1
    maxParallelLive: Annotated[  # noqa: N815
        Count, Meta(description="Nodes that may be under way at once.")
    ] = "10%"
    maxUnhealthy: Annotated[  # noqa: N815
        Count, Meta(description="With more nodes not ready than this nothing new begins.")
    ] = "10%"
    canary: Annotated[Number, Meta(description="Nodes that go first; the others wait until these are done.")] = 1
    soak_s: Annotated[Seconds, Meta(description="Seconds that a changed node is watched before it counts as done.")] = (
        300
    )
    failureThreshold: Annotated[  # noqa: N815
        Number, Meta(description="With this many failed nodes nothing new begins.")
    ] = 1
    drain: Drain = Drain()


class ProfileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `spec` of a profile. `tune` is checked apart, tunable by tunable."""

    extends: Annotated[
        tuple[str, ...], Meta(description="Built-in or other profiles that this one adds to; a later one wins.")
    ] = ()
    nodeSelector: Annotated[  # noqa: N815
        NodeSelector,
        Meta(description="In a cluster, the labels of the nodes that this profile is for. Empty selects no node."),
    ] = NodeSelector()
    allNodes: Annotated[  # noqa: N815
        bool, Meta(description="In a cluster, true selects every node; then nodeSelector must be empty.")
    ] = False
    priority: Annotated[
        Priority, Meta(description="In a cluster, the profile of the highest priority governs a node.")
    ] = 0
    tune: Annotated[dict[str, Any], Meta(description="Settings wanted, by tunable.")] = {}
    accept: Annotated[tuple[Accept, ...], Meta(description="Findings that are known and accepted.")] = ()
    drift: Annotated[
        Literal["report", "repair", "freeze"] | None,
        Meta(
            description="What the daemon does where a setting is not as wanted. report: say so and write nothing. "
            "repair: write it again. freeze: write nothing at all, new revisions of the profile included. "
            "Default: report on a host, repair in a cluster. The commands `apply` and `undo` do not look at it."
        ),
    ] = None
    rollout: Rollout = Rollout()


class Profile(msgspec.Struct, frozen=True):
    """A profile as written, or resolved: then `origins` says where each tunable's spec came from."""

    name: str
    spec: ProfileSpec
    origins: dict[str, str] = {}

    @property
    def revision(self) -> str:
        """Hash of what decides a node's settings: tune, accept and drift. Ten hexadecimal digits."""
        content = [self.spec.tune, self.spec.accept, self.spec.drift]
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:10]

    @property
    def identity(self) -> ProfileName:
        """Name and revision."""
        return ProfileName(self.name, self.revision)


def nearest(name: str, known: Sequence[str]) -> str:
    """`, did you mean X?` for a wrong name, or nothing."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def parse(document: Any, source: str = "profile") -> Profile:
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
        faults.append(f"metadata.name: {name!r} is no DNS label of at most 63 characters")
    raw = document.get("spec")
    if not isinstance(raw, dict):
        faults.append("spec: missing, or not a mapping")
        raise ProfileInvalid(faults, source)
    spec = parse_fields(raw, ProfileSpec, "spec", faults)
    if spec.get("allNodes") and not spec.get("nodeSelector", NodeSelector()).is_empty:
        faults.append("spec.allNodes: true selects every node already; remove it, or remove nodeSelector")
    if faults:
        raise ProfileInvalid(faults, source)
    return Profile(str(name), ProfileSpec(**spec))


def parse_fields(raw: Mapping[Any, Any], kind: type[Any], path: str, faults: list[str]) -> dict[str, Any]:
    """Convert field by field, so that one fault does not hide the next."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
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


def _parse_field(value: Any, kind: Any, path: str, faults: list[str]) -> Any:
    """One field; a structure in it field by field again."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if bare is NodeSelector:
        return parse_selector(value, path, faults)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct) and isinstance(value, dict):
        before = len(faults)
        inner = parse_fields(value, bare, path, faults)
        return bare(**inner) if len(faults) == before else None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if bare == Count:
            faults.append(f"{path}: {value!r} is neither a count nor a percentage up to 100%")
        else:
            faults.append(_located(path, error))
        return None


def _located(path: str, error: msgspec.ValidationError) -> str:
    text = str(error)
    message, _, where = text.partition(" - at `$")
    return f"{path}{where.rstrip('`')}: {message}"


def builtin_names() -> list[str]:
    """Names of the profiles that are shipped."""
    folder = importlib.resources.files("tuneagent") / "profiles"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def builtin(name: str) -> Profile | None:
    """A shipped profile, not resolved; None if there is none of that name."""
    if name not in builtin_names():
        return None
    data = (importlib.resources.files("tuneagent") / "profiles" / f"{name}.json").read_bytes()
    return parse(msgspec.json.decode(data), name)


def resolve(profile: Profile, lookup: Callable[[str], Profile | None] = builtin) -> Profile:
    """Profile with everything it extends taken in; a later one wins. Raises UsageError for an unknown name."""
    return _resolve(profile, lookup, ())


def _resolve(profile: Profile, lookup: Callable[[str], Profile | None], path: tuple[str, ...]) -> Profile:
    if profile.name in path:
        raise UsageError(f"profile {profile.name} extends itself: {' -> '.join((*path, profile.name))}")
    if len(path) >= EXTENDS_LIMIT:
        raise UsageError(f"profile {profile.name}: more than {EXTENDS_LIMIT} levels of extends")
    tune: dict[str, Any] = {}
    accept: list[Accept] = []
    origins: dict[str, str] = {}
    for name in profile.spec.extends:
        base = lookup(name)
        if base is None:
            raise UsageError(
                f"profile {profile.name} extends {name!r}, which does not exist{nearest(name, builtin_names())}"
            )
        below = _resolve(base, lookup, (*path, profile.name))
        _merge(tune, origins, below.spec.tune, below.origins, base.name)
        accept += below.spec.accept
    _merge(tune, origins, profile.spec.tune, {}, profile.name)
    spec = msgspec.structs.replace(profile.spec, extends=(), tune=tune, accept=(*accept, *profile.spec.accept))
    return Profile(profile.name, spec, origins)


def _merge(
    tune: dict[str, Any], origins: dict[str, str], later: Mapping[str, Any], named: Mapping[str, str], name: str
) -> None:
    for tunable, spec in later.items():
        origin = named.get(tunable, name)
        if spec is None:
            # A later profile takes a setting out by saying null: it is then nobody's.
            tune.pop(tunable, None)
        elif tunable in MERGED_BY_NAME and isinstance(tune.get(tunable), dict) and isinstance(spec, dict):
            tune[tunable] = {**tune[tunable], **spec}
            origin = f"{origins[tunable]}, {origin}" if origins[tunable] != origin else origin
        else:
            tune[tunable] = spec
        origins[tunable] = origin


def convert_spec(raw: Any, kind: Any, path: str, faults: list[str]) -> Any:
    """Typed spec of one tunable, or None with its faults added."""
    before = len(faults)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(raw, dict):
            faults.append(f"{path}: expected a mapping, got {raw!r}")
            return None
        found = parse_fields(raw, kind, path, faults)
        return kind(**found) if len(faults) == before else None
    if isinstance(raw, dict):
        # A table of rows: each row by itself.
        converted: dict[str, Any] = {}
        for key, value in raw.items():
            try:
                converted.update(msgspec.convert({key: value}, kind))
            except msgspec.ValidationError as error:
                faults.append(f"{path}.{key}: {str(error).partition(' - at')[0]}")
        return converted if len(faults) == before else None
    faults.append(f"{path}: expected a mapping, got {raw!r}")
    return None


def unknown_names(tune: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Tunables and fields that the generated schema of `tune` does not know: for the operator."""
    known = schema["properties"]
    faults = []
    for tunable, spec in tune.items():
        if tunable not in known:
            faults.append(f"spec.tune.{tunable}: unknown{nearest(tunable, tuple(known))}")
            continue
        fields = known[tunable].get("properties")
        if fields is not None and isinstance(spec, dict):
            faults += [
                f"spec.tune.{tunable}.{name}: unknown{nearest(str(name), tuple(fields))}"
                for name in spec
                if name not in fields
            ]
    return faults
