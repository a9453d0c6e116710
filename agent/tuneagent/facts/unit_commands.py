"""What a unit starts: its commands with their variables put in (systemd.service(5), systemd.exec(5))."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from tuneagent.contracts.values import Absent
from tuneagent.errors import PathMissing
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import UNIT_FOLDERS, unit_files, unit_text
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.systemd_unit import assigned, variables_of, variables_of_file

# `${NAME}` counts anywhere, `$NAME` as a word of its own, `$$` is a dollar sign.
VARIABLE = lazy_regex(r"\$\$|\$\{(\w+)\}|(?<!\S)\$(\w+)(?!\S)")
# What may stand before the program's path.
_PREFIXES = "@-:+!|"


class Command(NamedTuple):
    """One command; `is_whole` is false where a file that may give one of its variables is not known."""

    text: str
    is_whole: bool

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return self.text.lstrip(_PREFIXES).partition(" ")[0].rpartition("/")[2]


class Environment(NamedTuple):
    """Variables with their values and the files that give them.

    `files` are those that the unit names for them; `is_whole` is false where one is not known.
    """

    values: dict[str, tuple[str, str]]
    files: frozenset[str]
    is_whole: bool


def environment_of(
    facts: Facts, unit: str, folders: Iterable[str] = UNIT_FOLDERS, without: Collection[str] = ()
) -> Environment:
    """Variables that a unit starts with, as if the files `without` were not there. Raises ReadFailed.

    Files of variables override `Environment=`; of either the later counts.
    """
    found: dict[str, tuple[str, str]] = {}
    files: list[str] = []
    for path in unit_files(facts.host, unit, folders):
        text = unit_text(facts.host, path)
        for value in assigned(text, "Environment"):
            found = {**found, **{name: (one, f"/{path}") for name, one in variables_of(value).items()}} if value else {}
        for value in assigned(text, "EnvironmentFile"):
            files = [*files, value.removeprefix("-").strip().lstrip("/")] if value else []
    is_whole = True
    for path in (path for path in files if path not in without):
        try:
            text = facts.host.files.read(path)
        except PathMissing:
            is_whole = is_whole and isinstance(facts.host.missing(path), Absent)
            continue
        found |= {name: (one, f"/{path}") for name, one in variables_of_file(text).items()}
    return Environment(found, frozenset(files), is_whole)


def commands_of(facts: Facts, unit: str) -> list[Command]:
    """Commands of `ExecStart=`; an empty one takes back those before it. Raises ReadFailed."""
    found: list[str] = []
    for path in unit_files(facts.host, unit):
        for value in assigned(unit_text(facts.host, path), "ExecStart"):
            found = [*found, value] if value else []
    if not found:
        return []
    known = environment_of(facts, unit)
    return [_expanded(text, known) for text in found]


def _expanded(text: str, known: Environment) -> Command:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if name is None:
            return "$"
        if name not in known.values:
            missing.append(name)
        # To systemd a variable that nothing sets is empty.
        return known.values[name][0] if name in known.values else "" if known.is_whole else match.group(0)

    expanded = VARIABLE.sub(value, text)
    return Command(expanded, known.is_whole or not missing)
