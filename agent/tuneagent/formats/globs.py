"""Names with wildcards as glob(3) takes them: `{a,b}` is either, and no wildcard stands for a separator."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase


def covers(glob: str, name: str, separator: str) -> bool:
    """Whether a name of parts matches."""
    asked = name.split(separator)
    for one in _braces(glob):
        parts = one.split(separator)
        if len(parts) == len(asked) and all(map(fnmatchcase, asked, parts)):
            return True
    return False


def _braces(glob: str) -> list[str]:
    """The globs that one with `{a,b}` stands for; at most 256."""
    match = re.search(r"\{([^{}]*)\}", glob)
    if match is None:
        return [glob]
    parts = [glob[: match.start()] + one + glob[match.end() :] for one in match.group(1).split(",")]
    return [found for part in parts for found in _braces(part)][:256]
