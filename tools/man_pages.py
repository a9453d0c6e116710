"""The manual pages of every command, from the tree of commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click
from click_man.man import ManPage
from tuneagent import __version__
from tuneagent.commands.main import cli

SECTION = "1"
EXIT_STATUS = (
    "0 as wanted, or done; 1 failure; 2 wrong use or an invalid profile; 3 something is drifted, not persisted, "
    "pending or in conflict; 4 none of these, but something is unknown."
)
FILES = (
    ("/var/lib/tuneagent", "Journal and lock. The journal holds the value before each write."),
    ("/etc/tuneagent/profile.yaml", "The profile that tuneagent.service applies."),
)


def commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and every command below it, by full name."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from commands(f"{path} {name}", inner)


def manual() -> dict[str, str]:
    """The text of each manual page by its file name."""
    return {f"{path.replace(' ', '-')}.{SECTION}": _page(path, command) for path, command in commands("tuneagent", cli)}


def _page(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    page = ManPage(path.replace(" ", "-"))
    page.version = f"tuneagent {__version__}"
    page.date = ""
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    page.short_help = " ".join(help_text.partition("\n\n")[0].split()).rstrip(".")
    page.description = _escaped(help_text)
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.options = [
        (record[0], _escaped(record[1]))
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and (record := parameter.get_help_record(context)) is not None
    ]
    if isinstance(command, click.Group):
        inner = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        page.commands = [(name, one.get_short_help_str(200)) for name, one in inner if one is not None]
    # A page is named with hyphens, but a command is typed with spaces.
    return str(page).replace(f"\n.B {page.command}\n", f"\n.B {path}\n") + _sections(path)


def _sections(path: str) -> str:
    files = "".join(f".TP\n.I {name}\n{what}\n" for name, what in FILES)
    parent = path.rpartition(" ")[0].replace(" ", "-")
    also = f".SH SEE ALSO\n.BR {parent} ({SECTION})\n" if parent else ""
    return f".SH EXIT STATUS\n{EXIT_STATUS}\n.SH FILES\n{files}{also}"


def _escaped(text: str) -> str:
    """Text escaped so that roff finds no request and no escape in it."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").split("\n")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)
