"""systemd.syntax(7): what a unit or a configuration file assigns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tuneagent.formats.lazy_regex import lazy_regex

_COMMENT = lazy_regex(r"^[ \t]*[#;].*(?:\n|\Z)", re.MULTILINE)


def whole_lines(text: str) -> str:
    """Lines that are no comments, each with those that go on with it. A comment never goes on, and ends nothing."""
    return re.sub(r"\\(?:\n|\Z)", " ", _COMMENT.sub("", text))


def assigned(text: str, name: str, section: str) -> list[str]:
    """Values of a setting in the order of their lines; an empty one clears those before it.

    systemd takes no notice of a setting in another section. Captures may hold lines without their section: those before
    the first one count.
    """
    whole = whole_lines(text)
    if "[" in whole:
        whole = "\n".join(_lines_of(whole, section))
    found: list[str] = re.findall(rf"^[ \t]*{name}[ \t]*=[ \t]*(.*?)[ \t]*$", whole, re.MULTILINE)
    return found


def _lines_of(text: str, section: str) -> Iterator[str]:
    counts = True
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("[") and bare.endswith("]"):
            counts = bare == f"[{section}]"
        elif counts:
            yield line


def variables_of(value: str) -> tuple[dict[str, str], bool]:
    """Variables of one `Environment=`: words in quotes or not, each `NAME=value`; false for what is not taken apart."""
    try:
        words = shlex.split(value)
    except ValueError:
        return {}, False
    found = {name: text for name, equals, text in (word.partition("=") for word in words) if equals}
    return found, "\\" not in value


def variables_of_file(text: str) -> tuple[dict[str, str], bool]:
    """Variables of an `EnvironmentFile=`: a line each, without comments; quotes around a value are taken off.

    Also whether all of it is so simple: a value in quotes may go on over lines, and hold escapes.
    """
    found: dict[str, str] = {}
    is_plain = True
    for line in whole_lines(text).splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals:
            continue
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        inner = value[1:-1] if quoted else value
        is_plain = is_plain and "\\" not in inner and not (value[:1] in ("'", '"') and not quoted)
        found[name.strip()] = inner
    return found, is_plain
