"""modprobe.d(5): the `options` lines."""

from __future__ import annotations

import re


def parse(text: str) -> dict[str, str]:
    """Value of each `module.option` of one file. A later one wins; a word without a value is skipped."""
    found: dict[str, str] = {}
    for module, words in re.findall(r"^\s*options\s+(\S+)\s+(.*)$", text, re.MULTILINE):
        for word in words.split():
            option, equals, value = word.partition("=")
            if equals:
                found[f"{module.replace('-', '_')}.{option}"] = value
    return found
