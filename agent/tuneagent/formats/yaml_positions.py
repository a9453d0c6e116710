"""Where each key and each item of a YAML document stands, by the path that faults name."""

from __future__ import annotations

from typing import Any

import msgspec

from tuneagent.formats.yaml_document import check_shape


class Place(msgspec.Struct, frozen=True):
    """A word of a document. Lines and columns count from 1."""

    line: int
    column: int
    length: int


def positions(text: str) -> dict[str, Place]:
    """Place of each key, as `spec.tune.sysctl`, and of each item, as `pages[0]`; none if it is not a document."""
    import yaml

    found: dict[str, Place] = {}
    try:
        check_shape(text)
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeError):
        return found
    _walk(root, "", found)
    return found


def _walk(node: Any, path: str, found: dict[str, Place]) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}" if path else str(key.value)
            found[inner] = _place(key)
            # A value on the line of its key is what is wrong with it.
            if isinstance(value, yaml.ScalarNode):
                found[f"{inner}="] = _place(value)
            _walk(value, inner, found)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            found[f"{path}[{number}]"] = _place(item)
            _walk(item, f"{path}[{number}]", found)


def _place(node: Any) -> Place:
    start, end = node.start_mark, node.end_mark
    length = end.column - start.column if end.line == start.line else 1
    return Place(start.line + 1, start.column + 1, max(length, 1))
