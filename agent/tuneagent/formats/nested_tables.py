"""Tables within tables, as documents of YAML, JSON and TOML are."""

from __future__ import annotations


def table(document: object, *names: str) -> dict[str, object]:
    """The table at a path of names; empty where there is none."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def merged(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    """One document over another: tables are merged, a null takes away, everything else is replaced (RFC 7396)."""
    found = dict(before)
    for key, value in after.items():
        if value is None:
            found.pop(key, None)
            continue
        known = found.get(key)
        found[key] = merged(known if isinstance(known, dict) else {}, value) if isinstance(value, dict) else value
    return found
