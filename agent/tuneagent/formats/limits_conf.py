"""limits.conf(5): the limits that a login gets."""

from __future__ import annotations

import re

from tuneagent.formats.lazy_regex import lazy_regex

_LINE = lazy_regex(r"^[ \t]*(\*|root)[ \t]+(?:soft|hard|-)[ \t]+([a-z]+)[ \t]+([^\s#]+)", re.MULTILINE)


def for_everyone(text: str) -> list[tuple[str, str]]:
    """Item and value of each line for everyone or for root, soft and hard alike."""
    return [(item, value) for _, item, value in _LINE.findall(text)]
