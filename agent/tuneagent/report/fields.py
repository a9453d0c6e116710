"""The fields of a document as rows: path, what it accepts, its default, what it means. From its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from tuneagent.contracts.json_schema import json_schema

Schema = Mapping[str, object]
# An object with no more fields than this is shown by their names.
_SHORT = 4


class FieldRow(msgspec.Struct, frozen=True):
    """One field. `path` is `pages[].size` in a list and `<name>` where the name is free; `default` is JSON or empty."""

    path: str
    takes: str
    required: bool
    default: str
    meaning: str


def field_rows(kind: object) -> list[FieldRow]:
    """Every field of a type, those of its parts under them. A recursive part is entered once."""
    schema = json_schema(kind)
    return list(_under("", schema, _definitions(schema), ()))


def takes_of(kind: object) -> str:
    """What a whole type takes, in words."""
    schema = json_schema(kind)
    return _takes(schema, _definitions(schema))


def _definitions(schema: Schema) -> Schema:
    return msgspec.convert(schema.get("$defs", {}), dict[str, object])


def _under(path: str, schema: Schema, definitions: Schema, inside: tuple[str, ...]) -> Iterator[FieldRow]:
    for part, suffix in _parts(schema):
        name = _name(part)
        if name in inside:
            continue
        found = _resolved(part, definitions)
        properties = found.get("properties")
        if isinstance(properties, dict):
            needed = found.get("required", [])
            for key, field in properties.items():
                inner = f"{path}{suffix}.{key}" if path or suffix else key
                is_required = isinstance(needed, list) and key in needed
                yield _row(inner, field, definitions, is_required)
                yield from _under(inner, field, definitions, (*inside, name) if name else inside)
        elif found is not schema or suffix:
            yield from _under(path + suffix, found, definitions, inside)


def _parts(schema: Schema) -> list[tuple[Schema, str]]:
    """What may have fields in a schema, each with what stands for it in a path."""
    if isinstance(alternatives := schema.get("anyOf"), list):
        return [part for one in alternatives for part in _parts(one)]
    if isinstance(items := schema.get("items"), dict):
        return [(part, f"[]{suffix}") for part, suffix in _parts(items)]
    if isinstance(others := schema.get("additionalProperties"), dict):
        return [(part, f".<name>{suffix}") for part, suffix in _parts(others)]
    return [(schema, "")] if "$ref" in schema or "properties" in schema else []


def _row(path: str, field: Schema, definitions: Schema, required: bool) -> FieldRow:
    default = field.get("default")
    is_plain = isinstance(default, bool | int | float | str) or (isinstance(default, list) and default)
    return FieldRow(
        path,
        _takes(field, definitions),
        required,
        msgspec.json.encode(default).decode().strip('"') if is_plain and default != "" else "",
        _meaning(field, definitions),
    )


def _meaning(field: Schema, definitions: Schema) -> str:
    said = field.get("description")
    if said is None:
        parts = _parts(field)
        said = _resolved(parts[0][0], definitions).get("description") if parts else ""
    return " ".join(str(said or "").split())


def _takes(schema: Schema, definitions: Schema) -> str:
    """What a value may be, in words."""
    schema = _resolved(schema, definitions)
    if isinstance(alternatives := schema.get("anyOf"), list):
        words = [_takes(one, definitions) for one in alternatives if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if isinstance(values := schema.get("enum"), list):
        return ", ".join(str(value) for value in values if value is not None)
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        inner = _takes(items, definitions) if isinstance(items, dict) else "any value"
        return f"list of {'objects' if inner == 'object' else inner}"
    if kind == "object":
        return _object(schema, definitions)
    if kind in ("integer", "number"):
        return _number("whole number" if kind == "integer" else "number", schema)
    return _text(schema) if kind == "string" else "true or false" if kind == "boolean" else "any value"


def _object(schema: Schema, definitions: Schema) -> str:
    others, properties = schema.get("additionalProperties"), schema.get("properties")
    if isinstance(others, dict):
        return f"map of names to {_takes(others, definitions)}"
    if isinstance(properties, dict) and 0 < len(properties) <= _SHORT:
        return "{" + ", ".join(properties) + "}"
    return "object"


def _text(schema: Schema) -> str:
    if str(schema.get("pattern", "")).endswith("%$"):
        return "percentage"
    return "date" if schema.get("format") == "date" else "text"


def _number(word: str, schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{word} from {low} to {high}"
    if low is not None:
        return f"{word}, at least {low}"
    return f"{word}, at most {high}" if high is not None else word


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    name = _name(schema)
    found = definitions.get(name) if name else None
    return found if isinstance(found, dict) else schema


def _name(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
