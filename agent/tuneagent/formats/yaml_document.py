"""A YAML document from someone else, as plain data that JSON can hold; anything else is a fault of the document."""

from __future__ import annotations

import functools
import math
from datetime import date
from typing import Any

from tuneagent.errors import ProfileInvalid

SIZE_LIMIT_BYTES = 256 * 1024
DEPTH_LIMIT = 64


@functools.cache
def _loader() -> Any:
    """A YAML loader that refuses duplicate keys."""
    import yaml

    # The loader in C takes a tenth of the time. PyYAML may have been built without it.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # known only when it is run
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[object] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, (str, int, float, bool)):
                    raise yaml.YAMLError(f"{_place(key_node.start_mark)}: a key must be text")
                if key in seen:
                    raise yaml.YAMLError(f"{_place(key_node.start_mark)}: key {key!r} is given twice")
                seen.add(key)
            return super().construct_mapping(node, deep=deep)

        def construct_date(self, node: Any) -> Any:
            try:
                return self.construct_yaml_timestamp(node)
            except ValueError as error:
                raise yaml.YAMLError(f"{_place(node.start_mark)}: {node.value} is not a date: {error}") from None

    Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_date)
    return Loader


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "line 1"


def check_shape(text: str) -> None:
    """Raise YAMLError for aliases, which make small documents huge, and deep nesting, which crashes the C loader."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"{place}: aliases are not allowed in a profile")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise yaml.YAMLError(f"{place}: nested deeper than {DEPTH_LIMIT} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def load_yaml(text: str, source: str) -> object:
    """One YAML document as plain data. Raises ProfileInvalid, whatever is wrong with it."""
    # Built-in profiles are kept as JSON too: an audit with one of them needs no YAML.
    import yaml

    if len(text.encode(errors="surrogateescape")) > SIZE_LIMIT_BYTES:
        raise ProfileInvalid([f"larger than {SIZE_LIMIT_BYTES} bytes"], source)
    try:
        check_shape(text)
        # A safe loader: it makes plain data only.
        document = yaml.load(text, Loader=_loader())  # noqa: S506 - derived from a safe one
        fault = _implausible(document)
    except Exception as error:
        raise ProfileInvalid([_told(error)], source) from None
    if fault is not None:
        raise ProfileInvalid([fault], source)
    return document


def _told(error: Exception) -> str:
    """The YAML parser's message about a document, with the place in front."""
    import yaml

    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        told = error.problem or error.context or "not YAML"
        return f"{_place(mark)}: {told}"
    told = " ".join(str(error).split())[:300]
    return (
        told if isinstance(error, yaml.YAMLError) else f"a value that YAML cannot read: {told or type(error).__name__}"
    )


def _implausible(value: object, path: str = "") -> str | None:
    """Why the document holds a value that no setting has or that JSON cannot hold; None otherwise."""
    where = path or "the document"
    if isinstance(value, dict):
        pairs = [(f"{path}.{key}" if path else str(key), inner) for key, inner in value.items()]
        keys = next((found for key in value if (found := _implausible(key, f"{where}: a key"))), None)
        return keys or next((found for name, inner in pairs if (found := _implausible(inner, name))), None)
    if isinstance(value, list):
        pairs = [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
        return next((found for name, inner in pairs if (found := _implausible(inner, name))), None)
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return f"{where}: holds an incomplete character"
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return f"{where}: a number of more than 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where}: {value} is not a number"
    if not isinstance(value, (str, int, float, bool, date, type(None))):
        return f"{where}: {type(value).__name__} is not a kind of value that a profile has"
    return None


def dump_yaml(document: dict[str, Any]) -> str:
    """Plain data as people write it: keys in their order, short maps on one line."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    return text
