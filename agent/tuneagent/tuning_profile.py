"""TuningProfile: parse, find every fault, extend, resolve. Knows no tunable; their types are handed in."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Literal

import msgspec

from tuneagent.errors import ProfileInvalid, UsageError
from tuneagent.model import ProfileName
from tuneagent.pattern import pattern

API_VERSION = "tuneagent.dev/v1alpha1"
KIND = "TuningProfile"
SIZE_LIMIT_BYTES = 256 * 1024
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


class Drain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node is emptied before a disruptive change."""

    mode: Literal["whenIdle", "cordonAndWait", "evict"] = "whenIdle"
    timeout_s: int = 86400


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many nodes may change at once. Counts, or per cent of the selected nodes."""

    maxUnavailable: int | str = 1  # noqa: N815 - the name in the YAML document
    maxParallelLive: int | str = "10%"  # noqa: N815
    maxUnhealthy: int | str = "10%"  # noqa: N815
    canary: int = 1
    soak_s: int = 300
    failureThreshold: int = 1  # noqa: N815
    drain: Drain = Drain()


class ProfileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `spec` of a profile. `tune` is checked apart, tunable by tunable."""

    extends: tuple[str, ...] = ()
    nodeSelector: dict[str, Any] = {}  # noqa: N815
    priority: int = 0
    tune: dict[str, Any] = {}
    accept: tuple[Accept, ...] = ()
    drift: Literal["report", "repair", "freeze"] = "repair"
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


@functools.cache
def _loader() -> Any:
    """YAML without aliases, which make small documents huge, and without keys given twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed in a profile")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, (str, int, float, bool)):
                    raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key must be text")
                if key in seen:
                    raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
                seen.add(key)
            return super().construct_mapping(node, deep=deep)

        def construct_date(self, node: Any) -> Any:
            try:
                return self.construct_yaml_timestamp(node)
            except ValueError as error:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {node.value} is no date: {error}") from None

    Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_date)
    return Loader


def load_yaml(text: str, source: str) -> Any:
    """One YAML document as plain data. Raises ProfileInvalid."""
    # Built-in profiles are kept as JSON too: an audit with one of them needs no YAML.
    import yaml

    if len(text.encode(errors="surrogateescape")) > SIZE_LIMIT_BYTES:
        raise ProfileInvalid([f"larger than {SIZE_LIMIT_BYTES} bytes"], source)
    try:
        # A SafeLoader: it makes plain data only.
        return yaml.load(text, Loader=_loader())  # noqa: S506
    except RecursionError:
        raise ProfileInvalid(["nested too deep"], source) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ProfileInvalid([" ".join(str(error).split())], source) from None


def nearest(name: str, known: Sequence[str]) -> str:
    """`, did you mean X?` for a wrong name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
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
    spec = _parse_fields(raw, ProfileSpec, "spec", faults)
    faults += _rollout_faults(raw.get("rollout"))
    if faults:
        raise ProfileInvalid(faults, source)
    return Profile(str(name), ProfileSpec(**spec))


def _parse_fields(raw: Mapping[Any, Any], kind: type[Any], path: str, faults: list[str]) -> dict[str, Any]:
    """Convert field by field, so that one fault does not hide the next."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for key, value in raw.items():
        field = fields.get(key)
        if field is None:
            faults.append(f"{path}.{key}: unknown{nearest(str(key), tuple(fields))}")
            continue
        try:
            found[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            faults.append(_located(f"{path}.{key}", error))
    for field in fields.values():
        if field.required and field.encode_name not in raw:
            faults.append(f"{path}.{field.encode_name}: missing")
    return found


def _located(path: str, error: msgspec.ValidationError) -> str:
    text = str(error)
    message, _, where = text.partition(" - at `$")
    return f"{path}{where.rstrip('`')}: {message}"


def _rollout_faults(raw: Any) -> list[str]:
    if not isinstance(raw, dict):
        return []
    faults = []
    for key in ("maxUnavailable", "maxParallelLive", "maxUnhealthy"):
        value = raw.get(key, 1)
        is_percent = isinstance(value, str) and re.match(r"(100|[0-9]{1,2})%\Z", value)
        if not is_percent and not (isinstance(value, int) and value >= 0):
            faults.append(f"spec.rollout.{key}: {value!r} is neither a count nor a percentage up to 100%")
    for key in ("canary", "soak_s", "failureThreshold"):
        if isinstance(raw.get(key), int) and raw[key] < 0:
            faults.append(f"spec.rollout.{key}: {raw[key]} is below 0")
    return faults


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
        found = _parse_fields(raw, kind, path, faults)
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
