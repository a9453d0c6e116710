"""systemd.syntax(7): what a unit or a configuration file assigns."""

from __future__ import annotations

import re
import shlex


def whole_lines(text: str) -> str:
    """Each line with those that go on with it; a comment between them is not there."""
    return re.sub(r"\\\n([ \t]*[#;].*\n)*", " ", text)


def assigned(text: str, name: str) -> list[str]:
    """Values of a setting in the order of their lines; an empty one clears those before it."""
    found: list[str] = re.findall(rf"^[ \t]*{name}[ \t]*=[ \t]*(.*?)[ \t]*$", whole_lines(text), re.MULTILINE)
    return found


def variables_of(value: str) -> dict[str, str]:
    """Variables of one `Environment=`: words in quotes or not, each `NAME=value`."""
    try:
        words = shlex.split(value)
    except ValueError:
        words = []
    return {name: text for name, equals, text in (word.partition("=") for word in words) if equals}


def variables_of_file(text: str) -> dict[str, str]:
    """Variables of an `EnvironmentFile=`: a line each, without comments; quotes around a value are taken off."""
    found: dict[str, str] = {}
    for line in text.replace("\\\n", "").splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name.strip()] = value[1:-1] if quoted else value
    return found
