"""A TOML document from someone else, as plain data."""

from __future__ import annotations

import sys

from tuneagent.errors import ReadFailed


def load_toml(text: str, path: str) -> dict[str, object]:
    """The tables of a file. Raises ReadFailed where it is not TOML."""
    # A host without a container runtime needs no TOML.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ReadFailed(f"/{path}: not TOML: {error}") from None
