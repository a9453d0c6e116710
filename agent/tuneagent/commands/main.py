"""The command line: global options, where each command is found, and how a run ends."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import click

from tuneagent import __version__
from tuneagent.errors import TuneError, UsageError
from tuneagent.host.paths import discarding

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# Command -> module of this room that defines it, loaded when it is asked for.
COMMANDS = {
    "apply": "write_commands",
    "audit": "read_commands",
    "capture": "share",
    "completion": "completion",
    "confirm": "write_commands",
    "daemon": "process",
    "diff": "read_commands",
    "explain": "read_commands",
    "journal": "read_commands",
    "plan": "write_commands",
    "profile": "profiles",
    "run": "process",
    "support-bundle": "share",
    "topology": "read_commands",
    "undo": "write_commands",
    "why": "read_commands",
}


def fail(error: TuneError) -> NoReturn:
    """Show an error once; exit 2 for wrong use, else 1."""
    click.echo(f"tuneagent: {error}", err=True)
    sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)


class CommandGroup(click.Group):
    """Commands by the table above; errors of every command are shown in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, with its module loaded."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tuneagent.commands.{COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Turn the program's own errors into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except TuneError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tuneagent")
@click.option("--root", metavar="DIR", help="A tree of another machine's files instead of this machine.")
@click.option("--capture", metavar="FILE", help="A capture of another machine, read only.")
@click.option("--state-dir", metavar="DIR", envvar="TUNEAGENT_STATE_DIR", help="Where journal and lock are kept.")
@click.option("--host-root", metavar="DIR", envvar="TUNEAGENT_HOST_ROOT", hidden=True)
@click.option("--host-pid", type=int, default=1, envvar="TUNEAGENT_HOST_PID", hidden=True)
@click.pass_context
def cli(
    ctx: click.Context,
    root: str | None,
    capture: str | None,
    state_dir: str | None,
    host_root: str | None,
    host_pid: int,
) -> None:
    """Checks, applies and undoes the tuning of a GPU node."""
    from tuneagent.commands.settings import Settings

    if root is not None and capture is not None:
        raise UsageError("--root and --capture exclude each other")
    ctx.obj = Settings(root, capture, state_dir, host_root, host_pid)
    ctx.call_on_close(ctx.obj.stack.close)


def main() -> None:
    """Run. Output that cannot be written is a failure that is said, whatever was done before it."""
    if sys.stdout is None:
        sys.stdout = discarding()
    try:
        try:
            cli.main(prog_name="tuneagent")
        finally:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not be tried again at exit.
        sys.stdout = discarding()
        if not isinstance(error, BrokenPipeError):
            click.echo(f"tuneagent: output not written: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)
