"""The kernel's command line: its arguments, and the values of one, as `next_arg` takes them (lib/cmdline.c).

A quote keeps blanks together wherever it stands. Quotes around a whole argument, or around its value, are not part of
it; the first equals sign ends the name.
"""

from __future__ import annotations


def arguments(line: str) -> list[tuple[str, str | None]]:
    """Name and value of each argument, in order; None for a bare word. Those after `--`, which are init's, too."""
    found: list[tuple[str, str | None]] = []
    for word in words(line):
        is_quoted = word.startswith('"')
        text = word[1:] if is_quoted else word
        # A sign of equality in front ends no name.
        at = text.find("=", 1)
        name, value = (text, None) if at < 0 else (text[:at], text[at + 1 :])
        if value is not None and value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif is_quoted and value is not None:
            value = value.removesuffix('"')
        elif is_quoted:
            name = name.removesuffix('"')
        found.append((name, value))
    return found


def split_line(line: str) -> list[str]:
    """Arguments as the kernel sees them, without their quotes: `name` or `name=value`."""
    return [name if value is None else f"{name}={value}" for name, value in arguments(line)]


def values_of(line: str, name: str) -> list[str | bool]:
    """Values given to `name` in order: text, or True for a bare word. `-` and `_` are the same to the kernel."""
    return by_name(line).get(name.replace("-", "_"), [])


def by_name(line: str) -> dict[str, list[str | bool]]:
    """Values of every argument, by its name with `_` for `-`. Arguments after `--` belong to init."""
    found: dict[str, list[str | bool]] = {}
    for name, value in arguments(line):
        if name == "--" and value is None:
            break
        found.setdefault(name.replace("-", "_"), []).append(True if value is None else value)
    return found


def words(line: str) -> list[str]:
    """Arguments as they are written, with their quotes: they end at blanks outside quotes."""
    found: list[str] = []
    current = ""
    is_quoted = False
    for letter in line.lstrip():
        if letter.isspace() and not is_quoted:
            if current:
                found.append(current)
            current = ""
            continue
        is_quoted ^= letter == '"'
        current += letter
    return [*found, current] if current else found
