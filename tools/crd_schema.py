"""Structural schemas for CRDs from msgspec types (KEP-2335: no references, a type at every node)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneagent.contracts.json_schema import ANY, json_schema

_KEPT = (
    "type", "description", "enum", "default", "minimum", "maximum", "pattern", "maxLength", "maxItems", "format",
    "required",
)  # fmt: skip
# Bounds for one form of a count or percentage; the API server applies each only to values of its type.
_BOUNDS = ("minimum", "maximum", "pattern", "maxLength")


def structural(kind: Any) -> dict[str, Any]:
    """Structural schema of a type."""
    schema: dict[str, Any] = json_schema(kind)
    return _node(schema, schema.get("$defs", {}))


def without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what a program writes: the API server fills nothing in, and names of types are not described."""
    found = {key: value for key, value in schema.items() if key not in ("default", "description") and value != []}
    if "properties" in found:
        found["properties"] = {name: without_defaults(child) for name, child in found["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = without_defaults(found[key])
    return found


def tune_schema(spec_types: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of `spec.tune`: known tunables are typed, unknown ones are kept, so that none is dropped silently."""
    properties = {}
    for name, kind in spec_types.items():
        node = structural(kind)
        node["x-kubernetes-preserve-unknown-fields"] = True
        node.pop("required", None)
        properties[name] = {**node, "nullable": True}
    return {"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


def _node(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _node(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if "anyOf" in schema:
        union = _union(options, len(options) < len(schema["anyOf"]), definitions)
        return {**union, **({"description": schema["description"]} if "description" in schema else {})}
    found = {key: schema[key] for key in _KEPT if key in schema}
    if found.get("default") in (None, [], {}, ()):
        # An API server that fills in empty values would make them differ from what was written.
        found.pop("default", None)
    if found.get("enum") and None in found["enum"]:
        found["enum"] = [value for value in found["enum"] if value is not None]
        found["nullable"] = True
    if "enum" in found and "type" not in found:
        found["type"] = "string"
    if "properties" in schema:
        found["properties"] = {name: _node(child, definitions) for name, child in schema["properties"].items()}
    if schema.get("additionalProperties") not in (None, False, ANY):
        found["additionalProperties"] = _node(schema["additionalProperties"], definitions)
    elif found.get("type") == "object" and "properties" not in found:
        found["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in schema and isinstance(schema["items"], dict):
        found["items"] = _node(schema["items"], definitions)
    if "type" not in found:
        found["x-kubernetes-preserve-unknown-fields"] = True
    return found


def _union(options: list[Any], nullable: bool, definitions: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {option.get("type", "object") for option in options}
    if len(options) == 1:
        found = _node(options[0], definitions)
    elif kinds == {"integer", "string"}:
        bounds = {key: option[key] for option in options for key in _BOUNDS if key in option}
        found = {"x-kubernetes-int-or-string": True, **bounds}
    else:
        # Other unions have no structural form: tuneagent itself checks them.
        found = {"x-kubernetes-preserve-unknown-fields": True}
    if nullable:
        found["nullable"] = True
    return found
