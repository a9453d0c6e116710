"""What msgspec says of a wrong value, in words for whoever wrote it: what is allowed, and the nearest name. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from tuneagent.errors import nearest
from tuneagent.formats.lazy_regex import lazy_regex

_ENUM = lazy_regex(r"Invalid enum value (.+)\Z")
_UNKNOWN = lazy_regex(r"Object contains unknown field `(.+)`\Z")
_MISSING = lazy_regex(r"Object missing required field `(.+)`\Z")
_KIND = lazy_regex(r"Expected `(.+)`, got `(.+)`\Z")
# Kubernetes writes 4Gi, people 4GiB or 4G for it, and drives are sold by 4GB.
_SIZE = lazy_regex(r"(\d{1,6}) ?([KMGT])(iB?|B)?\Z")
_STEP = lazy_regex(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "a mapping", "date": "a date", "null": "nothing",
}  # fmt: skip


def fault_of(path: str, value: object, kind: object, error: msgspec.ValidationError) -> str:
    """`PATH: what is wrong`, for a value that is not a `kind`."""
    message, _, where = str(error).partition(" - at `$")
    inner = where.rstrip("`")
    found, wanted = _value_at(value, inner), list(_types_at(kind, inner))
    place = f"{path}{inner}" if "[...]" not in inner else path
    if match := _UNKNOWN.match(message):
        fields = [field.encode_name for one in wanted for field in _fields(one)]
        known = f"; known are {', '.join(fields)}" if fields else ""
        return f"{place}.{match.group(1)}: unknown{nearest(match.group(1), fields) or known}"
    if match := _MISSING.match(message):
        return f"{place}.{match.group(1)}: missing"
    if match := _ENUM.match(message):
        allowed = [one for kind_there in wanted for one in _literals(kind_there)]
        if allowed:
            return (
                f"{place}: {match.group(1)} is not one of {', '.join(allowed)}{nearest(match.group(1)[1:-1], allowed)}"
            )
    if match := _KIND.match(message):
        kinds = [_KINDS.get(name, name) for name in match.group(1).split(" | ") if name != "null"]
        return f"{place}: expected {' or '.join(kinds)}, found {_found(found, match.group(2))}{_in_bytes(place, found)}"
    return f"{place}: {message[:1].lower()}{message[1:]}"


def _found(value: object, kind: str) -> str:
    if value is None or kind == "null":
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return f"the text {value!r}" if isinstance(value, str) else _KINDS.get(kind, kind)


def _in_bytes(place: str, value: object) -> str:
    """`4GiB` in a field of bytes, as the number to write."""
    match = _SIZE.match(value) if isinstance(value, str) and place.lower().endswith("bytes") else None
    if match is None:
        return ""
    base = 1000 if match.group(3) == "B" else 1024
    return f"; write {int(match.group(1)) * base ** ('KMGT'.index(match.group(2)) + 1)}"


class _Elsewhere:
    """Stands for a value that the path of a fault does not lead to."""


_ELSEWHERE = _Elsewhere()


def _value_at(value: object, path: str) -> object:
    for match in _STEP.finditer(path):
        name, number = match.groups()
        if name is not None and isinstance(value, dict) and name in value:
            value = value[name]
        elif number is not None and isinstance(value, list) and number.isdigit() and int(number) < len(value):
            value = value[int(number)]
        else:
            return _ELSEWHERE
    return value


def _types_at(kind: object, path: str) -> Iterator[object]:
    """Types that the value at a path may have."""
    steps = [match.groups() for match in _STEP.finditer(path)]
    yield from _walked(kind, steps)


def _walked(kind: object, steps: list[tuple[Any, ...]]) -> Iterator[object]:
    for one in _members(kind):
        if not steps:
            yield one
            continue
        (name, _), rest = steps[0], steps[1:]
        arguments = get_args(one)
        for field in _fields(one):
            if field.encode_name == name:
                yield from _walked(field.type, rest)
        if get_origin(one) in (list, tuple) and arguments:
            yield from _walked(arguments[0], rest)
        elif get_origin(one) is dict and arguments:
            yield from _walked(arguments[1], rest)


def _members(kind: object) -> Iterator[object]:
    """A type, or the types of a union of them."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif isinstance(kind, type) or get_origin(kind) in (Literal, dict, list, tuple):
        yield kind
    else:
        for one in get_args(kind):
            yield from _members(one)


def _fields(kind: object) -> tuple[msgspec.structs.FieldInfo, ...]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return msgspec.structs.fields(kind)
    return ()


def _literals(kind: object) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind)]
    values = getattr(kind, "__members__", {})
    return [str(one.value) for one in values.values()]
