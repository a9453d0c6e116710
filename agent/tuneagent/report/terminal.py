"""What may reach a terminal: text without control characters."""

from __future__ import annotations

from tuneagent.formats.lazy_regex import lazy_regex

_CONTROL = lazy_regex(r"[\x00-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Text from the host without control characters, so that it cannot steer a terminal."""
    return _CONTROL.sub("?", text.replace("\r\n", " ").replace("\n", " "))
