"""A file of TuneD: sections with options, and the line on which each stands.

TuneD reads its files with Python's configparser, so this does too: comments behind values, continued lines, the last of
several equal keys, and `[DEFAULT]` are what that module makes of them.
"""

from __future__ import annotations

import configparser

import msgspec

from tuneagent.errors import UsageError
from tuneagent.formats.lazy_regex import lazy_regex

_SECTION = lazy_regex(r"\[([^\]]+)\]")
_KEY = lazy_regex(r"\s*([^=\s#;][^=]*?)\s*=")


class Line(msgspec.Struct, frozen=True):
    """One option as it stands in a file. `number` is that of its first line; `value` may hold several."""

    file: str
    number: int
    key: str
    value: str

    @property
    def text(self) -> str:
        """`key=value`, on one line."""
        return f"{self.key}={' '.join(self.value.split())}"


def parse(text: str, file: str, *, keys_alone: bool = False) -> dict[str, dict[str, Line]]:
    """Options by section. `keys_alone` allows keys without a value, which are left out. Raises UsageError."""
    parser = configparser.RawConfigParser(
        delimiters=("=",), inline_comment_prefixes=("#",), strict=False, allow_no_value=keys_alone
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    try:
        parser.read_string(text, file)
    except configparser.Error as error:
        raise UsageError(f"{file}: TuneD cannot read it: {' '.join(str(error).split())[:200]}") from None
    numbers = _numbers(text)
    return {
        section: {
            key: Line(file, numbers.get((section, key), 1), key, value)
            for key, value in parser.items(section)
            if value is not None
        }
        for section in parser.sections()
    }


def variables(text: str, file: str) -> dict[str, Line]:
    """Options of a file of variables, which has no section. Raises UsageError."""
    found = parse(f"[variables]\n{text}", file, keys_alone=True)["variables"]
    return {key: Line(file, line.number - 1, key, line.value) for key, line in found.items()}


def _numbers(text: str) -> dict[tuple[str, str], int]:
    """Where the last of each key in each section begins."""
    found: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _SECTION.match(line):
            section = header.group(1)
        elif key := _KEY.match(line):
            found[(section, key.group(1))] = number
    return found
