"""JSON Schema of a whole profile, for editors: with every tunable's own fields."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tuneagent.contracts.json_schema import schema_hook
from tuneagent.contracts.tuning_profile import API_VERSION, KIND, ProfileSpec


def profile_schema(spec_types: Mapping[str, object]) -> dict[str, object]:
    """Schema of a document; `spec_types` are the types of the tunables' specs by name."""
    kinds = [ProfileSpec, *spec_types.values()]
    (spec, *tunables), definitions = msgspec.json.schema_components(
        kinds, schema_hook=schema_hook, ref_template="#/$defs/{name}"
    )
    # A profile may remove a setting of one that it extends by giving it as null.
    tune = {name: {"anyOf": [one, {"type": "null"}]} for name, one in zip(spec_types, tunables, strict=True)}
    whole = msgspec.convert(definitions.pop("ProfileSpec"), dict[str, object])
    properties = msgspec.convert(whole["properties"], dict[str, object])
    properties["tune"] = {
        "type": "object", "additionalProperties": False, "properties": tune,
        "description": "What is wanted, tunable by tunable; `tuneagent explain` lists them.",
    }  # fmt: skip
    definitions["ProfileSpec"] = {**whole, "properties": properties, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": KIND},
            "metadata": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
            "spec": spec,
            "status": {"type": "object"},
        },
        "$defs": definitions,
    }
