"""modprobe.d(5): options of modules, and the commands that load one module in place of another."""

from __future__ import annotations

import re

import msgspec

from tuneagent.formats.kernel_line import arguments
from tuneagent.formats.lazy_regex import lazy_regex

_COMMAND = lazy_regex(r"[ \t]*(\S+)[ \t]+(\S+)[ \t](.+)\Z", re.DOTALL)
# `modprobe -i nvidia-current $CMDLINE_OPTS`: the last word that is neither an option nor a variable.
_MODPROBE = lazy_regex(r"(?:/\S*/)?modprobe\b((?:\s+[^\s;&|]+)*)")


class Config(msgspec.Struct, frozen=True):
    """What one file says. `options`: module and what it is given, in order. `loads`: what is loaded for a module."""

    options: tuple[tuple[str, str], ...]
    loads: dict[str, str]


def config(text: str) -> Config:
    """The `options` and `install` lines of one file. Names of modules have underscores alone, as in the kernel."""
    options: list[tuple[str, str]] = []
    loads: dict[str, str] = {}
    for line in _lines(text):
        match = _COMMAND.match(line)
        if match is None:
            continue
        command, module, rest = match.group(1), _name(match.group(2)), match.group(3)
        if command == "options":
            options.append((module, rest))
        elif command == "install" and (other := _loaded_instead(rest)) not in ("", module):
            loads[module] = other
    return Config(tuple(options), loads)


def parse(text: str) -> dict[str, str]:
    """Value of each `module.option` of one file. A later one wins; a word without a value is skipped."""
    return values(config(text).options)


def values(options: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Value of each `module.option`. The kernel takes a module's options apart like its own line; the last one wins."""
    found: dict[str, str] = {}
    for module, text in options:
        for option, value in arguments(text):
            if value is not None:
                found.pop(f"{module}.{option}", None)
                found[f"{module}.{option}"] = value
    return found


def _lines(text: str) -> list[str]:
    """Lines as modprobe joins them: a backslash at the end of one goes, and so does any other, but not what follows."""
    joined = re.sub(r"\\(\n?)", "", text)
    return [line for line in joined.split("\n") if line.strip() and not line.lstrip().startswith("#")]


def _name(module: str) -> str:
    return module.replace("-", "_")


def _loaded_instead(command: str) -> str:
    match = _MODPROBE.search(command)
    words = [word for word in match.group(1).split() if word[0] not in "-$"] if match else []
    return _name(words[0]) if words else ""
