"""systemd.syntax(7): what a unit or a configuration file assigns."""

from __future__ import annotations

import re


def assigned(text: str, name: str) -> list[str]:
    """Values of a setting in the order of their lines; an empty one clears those before it."""
    found: list[str] = re.findall(rf"^[ \t]*{name}[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return found
