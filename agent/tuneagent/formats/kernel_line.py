"""The kernel's command line: its arguments, and the values of one, as lib/cmdline.c takes them."""

from __future__ import annotations


def split_line(line: str) -> list[str]:
    """Arguments of a kernel command line; double quotes keep spaces together, as in the kernel's parser."""
    arguments: list[str] = []
    current = ""
    quoted = False
    for letter in line.strip():
        if letter == '"':
            quoted = not quoted
            current += letter
        elif letter.isspace() and not quoted:
            if current:
                arguments.append(current)
            current = ""
        else:
            current += letter
    if current:
        arguments.append(current)
    return arguments


def values_of(line: str, name: str) -> list[str | bool]:
    """Values given to `name` in order: text, or True for a bare word. `-` and `_` are the same to the kernel.

    Arguments after `--` belong to init.
    """
    wanted = name.replace("-", "_")
    found: list[str | bool] = []
    for argument in split_line(line):
        if argument == "--":
            break
        key, equals, value = argument.partition("=")
        if key.replace("-", "_") == wanted:
            found.append(value.strip('"') if equals else True)
    return found
