"""JSON Schema of the contracts."""

from __future__ import annotations

import msgspec


def json_schema(kind: object) -> dict[str, object]:
    """Schema of a type, with its definitions."""
    return msgspec.json.schema(kind, schema_hook=_hook)


# What stands for a value of any type: msgspec takes no empty schema.
ANY = {"$comment": "any JSON value"}


def _hook(kind: type) -> dict[str, object]:
    if kind is object:
        return dict(ANY)
    raise NotImplementedError
