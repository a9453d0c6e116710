"""The command line: global options, where each command is found, and how a run ends."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tuneagent import __version__
from tuneagent.errors import ProfileInvalid, TuneError, UsageError
from tuneagent.host.own_process import discarding

if TYPE_CHECKING:
    from tuneagent.commands.settings import ProfileText

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# Command -> module of this room that defines it, loaded when it is asked for.
COMMANDS = {
    "apply": "write_commands",
    "audit": "read_commands",
    "bench-host": "probing",
    "capture": "share",
    "completion": "completion",
    "confirm": "write_commands",
    "daemon": "process",
    "diff": "read_commands",
    "explain": "read_commands",
    "goodput": "goodput",
    "journal": "read_commands",
    "plan": "write_commands",
    "playbook": "playbooks",
    "probe": "probing",
    "profile": "profiles",
    "prove": "experiments",
    "run": "process",
    "status": "read_commands",
    "support-bundle": "share",
    "topology": "read_commands",
    "undo": "write_commands",
    "why": "read_commands",
}


# Commands that may have written to the host when they are interrupted.
WRITERS = ("apply", "confirm", "daemon", "playbook", "prove", "undo")


def fail(error: TuneError, document: ProfileText | None = None) -> NoReturn:
    """Show an error once, faults of a profile at their places; exit 2 for wrong use, else 1."""
    from tuneagent.host.terminal import is_root

    if isinstance(error, ProfileInvalid) and document is not None:
        from tuneagent.report.faults import faults_text

        click.echo(faults_text(error, document.file, document.text), err=True)
    else:
        click.echo(f"tuneagent: {error}", err=True)
    if not is_root() and any(word in str(error) for word in ("EACCES", "EPERM")):
        click.echo("tuneagent: you are not root; run it with sudo", err=True)
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
        # The arguments of `run` belong to the program that it runs.
        if cmd_name != "run":
            _take_globals(found)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Turn the program's own errors into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except TuneError as error:
            fail(error, ctx.obj.document if ctx.obj is not None else None)
        except (KeyboardInterrupt, click.Abort):
            wrote = ctx.invoked_subcommand in WRITERS
            told = "`tuneagent status` shows what is held" if wrote else "nothing was written"
            click.echo(f"tuneagent: interrupted; {told}", err=True)
            sys.exit(EXIT_INTERRUPTED)


def _take_globals(command: click.Command) -> None:
    """Accept the global options after a command as well as before it."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _take_globals(inner)
        return
    given = {option.name for option in command.params}
    command.params += [_placed(name) for name in ("root", "capture", "state_dir") if name not in given]


def _placed(name: str) -> click.Option:
    """A global option after the command."""

    def place(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        del parameter
        if value is not None:
            setattr(ctx.obj, name, value)
            refuse_both(ctx.obj.root, ctx.obj.capture)

    return click.Option([f"--{name.replace('_', '-')}"], callback=place, expose_value=False, hidden=True)


def refuse_both(root: str | None, capture: str | None) -> None:
    """Raise UsageError where two hosts are named."""
    if root is not None and capture is not None:
        raise UsageError("--root and --capture cannot be used together")


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
# With a text of its own nothing is translated, and `locale` stays unloaded.
@click.version_option(__version__, "-V", "--version", prog_name="tuneagent", message="%(prog)s, version %(version)s")
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

    refuse_both(root, capture)
    ctx.obj = Settings(root, capture, state_dir, host_root, host_pid)
    ctx.call_on_close(ctx.obj.stack.close)


def main() -> None:
    """Run. Output that cannot be written is reported as a failure, whatever was done before it."""
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
