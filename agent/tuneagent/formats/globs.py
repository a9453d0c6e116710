"""Names with wildcards as glob(3) takes them: `{a,b}` is either, and no wildcard stands for a separator."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from tuneagent.formats.lazy_regex import lazy_regex

_FIRST_SIGN = lazy_regex(r"[*?\[]")


def matches(name: str, pattern: str) -> bool:
    """fnmatchcase, without a regular expression for what a plain text or the beginning of the pattern decides."""
    sign = _FIRST_SIGN.search(pattern)
    if sign is None:
        return name == pattern
    return name.startswith(pattern[: sign.start()]) and fnmatchcase(name, pattern)


def covers(glob: str, name: str, separator: str) -> bool:
    """Whether a name of parts matches."""
    asked = name.split(separator)
    for one in _braces(glob):
        parts = one.split(separator)
        if len(parts) == len(asked) and all(map(matches, asked, parts)):
            return True
    return False


def _braces(glob: str) -> list[str]:
    """The globs that one with `{a,b}` stands for; at most 256."""
    match = re.search(r"\{([^{}]*)\}", glob)
    if match is None:
        return [glob]
    parts = [glob[: match.start()] + one + glob[match.end() :] for one in match.group(1).split(",")]
    return [found for part in parts for found in _braces(part)][:256]
