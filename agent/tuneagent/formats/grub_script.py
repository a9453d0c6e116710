"""GRUB's script language as far as grub-mkconfig writes it: commands, blocks in braces, conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Union

from tuneagent.errors import ReadFailed
from tuneagent.formats.lazy_regex import lazy_regex

_TOKEN = lazy_regex(
    r"(?P<skip>[ \t]+|\\\n|(?<![^\s;])#[^\n]*)|(?P<end>[\n;])|(?P<open>\{(?=[\s;]|\Z))|(?P<close>\}(?=[\s;]|\Z))"
    r"|(?P<word>(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|\$\{[^}]*\}|\\.|[^\s;\"'])+)"
)
DEPTH_LIMIT = 32
Command = list[Union[str, "Block"]]


class Block(NamedTuple):
    """What stands between braces."""

    commands: list[Command]


def branches_of(commands: list[Command], start: int) -> tuple[list[tuple[Command | None, list[Command]]], int]:
    """Conditions with their bodies, None for `else`, and the place after `fi`."""
    branches: list[tuple[Command | None, list[Command]]] = []
    depth, place = 0, start
    while place < len(commands):
        command = commands[place]
        first = command[0] if command else ""
        if first == "if":
            depth += 1
        if first == "fi":
            depth -= 1
            if depth == 0:
                return branches, place + 1
        if depth == 1 and first in ("if", "elif"):
            branches.append((command[1:], []))
        elif depth == 1 and first == "else":
            branches.append((None, []))
        elif depth >= 1 and branches and not (depth == 1 and first == "then"):
            branches[-1][1].append(command)
        place += 1
    raise ReadFailed("GRUB configuration: `if` without `fi`")


def commands_of(text: str) -> list[Command]:
    """The commands of a file; words are as they are written. Raises ReadFailed for what is not understood."""
    return _block(_tokens(text), 0)


def _block(tokens: Iterator[re.Match[str]], depth: int) -> list[Command]:
    """Commands up to the brace that closes."""
    if depth > DEPTH_LIMIT:
        raise ReadFailed("GRUB configuration: braces are nested too deeply")
    found: list[Command] = []
    command: Command = []
    for token in tokens:
        if token.lastgroup == "word":
            command.append(token.group(0))
            if command in (["then"], ["else"]):
                found.append(command)
                command = []
        elif token.lastgroup == "open":
            command.append(Block(_block(tokens, depth + 1)))
        else:
            found += [command] if command else []
            command = []
            if token.lastgroup == "close":
                return found
    if depth:
        raise ReadFailed("GRUB configuration: an opening brace is never closed")
    return [*found, command] if command else found


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ReadFailed(f"GRUB configuration: cannot parse {text[position : position + 40]!r}")
        position = match.end()
        if match.lastgroup != "skip":
            yield match
