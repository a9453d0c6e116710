"""What a unit starts: its commands with their variables put in (systemd.service(5), systemd.exec(5)).

Whatever is not followed (specifiers of a host, escapes, variables of systemd itself) makes an answer one that is not
whole: then nothing is told for certain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from tuneagent.contracts.values import Absent
from tuneagent.errors import PathMissing
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import UNIT_FOLDERS, unit_files, unit_text
from tuneagent.formats.globs import covers
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.systemd_unit import assigned, variables_of, variables_of_file

# `${NAME}` counts anywhere, `$NAME` as a word of its own, in quotes or not; `$$` is a dollar sign.
VARIABLE = lazy_regex(r"\$\$|\$\{(\w+)\}|(?<![^\s\"'])\$(\w+)(?![^\s\"'])")
# What may stand before the program's path, and the path.
PROGRAM = lazy_regex(r"\s*([@:+!|-]*)[\"']?([^\s\"']+)")
# All of them (systemd.unit(5)).
_SPECIFIERS = set("aAbBCdDEfgGhHiIjJlLmMnNopPqsStTuUvVwWyY%")
_SPECIFIER = lazy_regex(r"%(.)")
_GLOB = "*?["


class Command(NamedTuple):
    """One command; `is_whole` is false where a word of it may be something else than what the files say."""

    text: str
    is_whole: bool

    @property
    def program(self) -> str:
        """The path of the program."""
        match = PROGRAM.match(self.text)
        return match.group(2) if match is not None else ""


class Environment(NamedTuple):
    """Variables with their values and the files that give them.

    `is_whole` is false where one may have another value, or be set by what is not followed.
    """

    values: dict[str, tuple[str, str]]
    is_whole: bool


def environment_of(
    facts: Facts, unit: str, folders: Iterable[str] = UNIT_FOLDERS, without: Collection[str] = ()
) -> Environment:
    """Variables that a unit starts with, as if the files `without` were not there. Raises ReadFailed.

    Files of variables override `Environment=`; of either the later counts.
    """
    found: dict[str, tuple[str, str]] = {}
    named: list[str] = []
    unset: list[str] = []
    is_whole = not assigned(facts.host.files.read_or("etc/systemd/system.conf", ""), "DefaultEnvironment", "Manager")
    for path in unit_files(facts.host, unit, folders):
        text = unit_text(facts.host, path)
        for value in assigned(text, "Environment", "Service"):
            specified = _specified(value, unit)
            given, is_plain = variables_of(specified or value)
            is_whole = is_whole and is_plain and specified is not None
            found = {**found, **{name: (one, f"/{path}") for name, one in given.items()}} if value else {}
        for value in assigned(text, "EnvironmentFile", "Service"):
            named = [*named, value] if value else []
        is_whole = is_whole and not assigned(text, "PassEnvironment", "Service")
        unset += [word for value in assigned(text, "UnsetEnvironment", "Service") for word in value.split()]
    for value in named:
        files = _files_of(facts, value, unit)
        is_whole = is_whole and files is not None
        for path in (one for one in files or () if one not in without):
            variable_files(facts).add(path)
            try:
                given, is_plain = variables_of_file(facts.host.files.read(path))
            except PathMissing:
                is_whole = is_whole and isinstance(facts.host.missing(path), Absent)
                continue
            is_whole = is_whole and is_plain
            found |= {name: (one, f"/{path}") for name, one in given.items()}
    return Environment({name: one for name, one in found.items() if name not in unset}, is_whole)


def variable_files(facts: Facts) -> set[str]:
    """Files of variables that were asked for in this pass."""
    return facts.once("files of variables", set[str])


def _files_of(facts: Facts, value: str, unit: str) -> list[str] | None:
    """Files that an `EnvironmentFile=` stands for; None where that is not known."""
    path = _specified(value.removeprefix("-").strip().strip("\"'"), unit)
    if path is None or not path.startswith("/"):
        return None
    folder, _, name = path.strip("/").rpartition("/")
    if not any(mark in path for mark in _GLOB):
        return [path.strip("/")]
    if any(mark in folder for mark in _GLOB):
        return None
    return [f"{folder}/{one}" for one in facts.host.files.names(folder) if covers(name, one, "/")]


def _specified(text: str, unit: str) -> str | None:
    """A text with the specifiers that the unit's name gives; None for one with others. Other letters stay."""
    stem = unit.rpartition(".")[0]
    prefix, _, instance = stem.partition("@")
    known = {"n": unit, "N": stem, "p": prefix, "i": instance, "%": "%"}
    letters = set(_SPECIFIER.findall(text))
    if letters & _SPECIFIERS - set(known):
        return None
    return _SPECIFIER.sub(lambda match: known.get(match.group(1), match.group(0)), text)


def commands_of(facts: Facts, unit: str) -> list[Command]:
    """Commands of `ExecStart=`; an empty one takes back those before it. Raises ReadFailed."""
    found: list[str] = []
    for path in unit_files(facts.host, unit):
        for value in assigned(unit_text(facts.host, path), "ExecStart", "Service"):
            found = [*found, value] if value else []
    if not found:
        return []
    known = environment_of(facts, unit)
    return [_expanded(text, unit, known) for text in found]


def _expanded(text: str, unit: str, known: Environment) -> Command:
    """A command with its variables. A word of its own may be several; `${NAME}` is a part of one at most."""
    specified = _specified(text, unit)
    match = PROGRAM.match(text)
    if specified is None or "\\" in text or (match is not None and ":" in match.group(1)):
        # With a colon nothing is put in.
        return Command(text, False)
    unknown: list[str] = []

    def value(match: re.Match[str]) -> str:
        inner, word = match.group(1), match.group(2)
        name = inner or word
        if name is None:
            return "$"
        if not known.is_whole:
            unknown.extend([name] if word else [])
            return match.group(0)
        # To systemd a variable that nothing sets is empty.
        return known.values[name][0] if name in known.values else ""

    return Command(VARIABLE.sub(value, specified), not unknown)
