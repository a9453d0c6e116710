"""What may reach a terminal: text without control characters."""

from __future__ import annotations

from tuneagent.formats.lazy_regex import lazy_regex

# Also what turns the direction of a line or ends it: a name could be made to read as another one.
_CONTROL = lazy_regex("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text from the host without control characters, so that it cannot steer a terminal or a reader's eye."""
    return _CONTROL.sub("?", text.replace("\r\n", " ").replace("\n", " "))
