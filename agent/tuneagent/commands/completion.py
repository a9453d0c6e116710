"""The command that prints the completion script of a shell."""

from __future__ import annotations

import click

from tuneagent.commands.main import cli
from tuneagent.errors import UsageError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "tuneagent", "_TUNEAGENT_COMPLETE").source())
