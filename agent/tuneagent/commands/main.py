"""The command line: global options, the commands, and how a run ends."""

from __future__ import annotations

import sys

import click

from tuneagent import __version__
from tuneagent.commands.process import daemon, run
from tuneagent.commands.profiles import profile
from tuneagent.commands.read_commands import audit, diff, explain, journal, topology, why
from tuneagent.commands.settings import EXIT_FAILED, CommandGroup, Settings
from tuneagent.commands.share import capture, support_bundle
from tuneagent.commands.write_commands import apply, confirm, plan, undo
from tuneagent.errors import UsageError
from tuneagent.host.paths import discarding


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
    if root is not None and capture is not None:
        raise UsageError("--root and --capture exclude each other")
    ctx.obj = Settings(root, capture, state_dir, host_root, host_pid)
    ctx.call_on_close(ctx.obj.stack.close)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: `eval "$(tuneagent completion bash)"`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "tuneagent", "_TUNEAGENT_COMPLETE").source())


for _command in (audit, plan, apply, undo, confirm, journal, why, explain, topology, capture, diff, support_bundle, run,
                 profile, daemon):  # fmt: skip
    cli.add_command(_command)


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
