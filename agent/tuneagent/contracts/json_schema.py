"""JSON Schema of the contracts."""

from __future__ import annotations

import msgspec


def json_schema(kind: object) -> dict[str, object]:
    """Schema of a type, with its definitions."""
    return msgspec.json.schema(kind, schema_hook=schema_hook)


# What stands for a value of any type: msgspec takes no empty schema.
ANY = {"$comment": "any JSON value"}


def schema_hook(kind: type) -> dict[str, object]:
    """What stands for a type that msgspec does not know."""
    if kind is object:
        return dict(ANY)
    # msgspec asks for this where a hook does not know a type, and says which one it was.
    raise NotImplementedError
