"""One line that is written over again while something takes long; nothing where there is no terminal."""

from __future__ import annotations

import click


def show_progress(line: str) -> None:
    """Show how far it is."""
    from tuneagent.host.terminal import is_terminal, width

    if is_terminal():
        click.echo(f"\r\033[K{line[: width() - 1]}", err=True, nl=False)


def clear_progress() -> None:
    """Leave an empty line to what follows."""
    show_progress("")
