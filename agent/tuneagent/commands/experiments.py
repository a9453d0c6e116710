"""The command that measures whether a profile helps."""

from __future__ import annotations

import math
import sys
import time

import click

from tuneagent.commands.main import EXIT_INTERRUPTED
from tuneagent.commands.options import FILE, ONLY, OUTPUT, PROFILE, seconds
from tuneagent.commands.settings import Settings, emit
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import UsageError
from tuneagent.experiments.live_arms import live_plan
from tuneagent.experiments.metrics import Metric, checked
from tuneagent.experiments.prove import Experiment
from tuneagent.experiments.trial import Limits, Progress
from tuneagent.formats.spoken_values import in_words
from tuneagent.host.signals import any_stop_event

EXIT_UNDONE, EXIT_NOTHING_TOLD = 5, 6
_SHOWN = 12
_DIRECTIONS = ("higher", "lower")


@click.command()
@FILE
@PROFILE
@ONLY
@OUTPUT
@click.option("--command", required=True, metavar="CMD", help="Command of the shell that does the work to be measured.")
@click.option(
    "--metric", "names", multiple=True, required=True, metavar="REGEX|json:PATH|file:PATH",
    help="Its result: the number that an expression finds last, a path in its JSON, or a file. May be repeated.",
)  # fmt: skip
@click.option(
    "--better", "directions", multiple=True, type=click.Choice(_DIRECTIONS), default=("higher",), show_default=True,
    help="Which direction is better; once for all metrics, or once for each.",
)  # fmt: skip
@click.option("--for", "time_s", callback=seconds, default="10m", show_default=True, metavar="TIME", help="Time limit.")
@click.option(
    "--command-limit", "command_limit_s", callback=seconds, default="10m", show_default=True, metavar="TIME",
    help="Time limit of one run of the command.",
)  # fmt: skip
@click.option(
    "--margin", type=click.FloatRange(0.1, 50), default=2.0, show_default=True, metavar="PERCENT",
    help="Smallest difference that matters.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Begin without asking.")
@click.option("--force", is_flag=True, help="Although a cluster governs this host.")
@click.pass_obj
def prove(  # noqa: PLR0913 - one for each option of the command
    settings: Settings,
    *,
    file: str | None,
    name: str | None,
    only: tuple[str, ...],
    output: str,
    command: str,
    names: tuple[str, ...],
    directions: tuple[str, ...],
    time_s: float,
    command_limit_s: float,
    margin: float,
    yes: bool,
    force: bool,
) -> None:
    """Measure a command with a profile and without it; keep the profile if it helps.

    The profile's live settings are applied and undone again and again while the command runs. Only if a metric is
    better with it, and none is worse, the profile is applied for good; else the host is left as it was.

    Exit code 0: kept. 5: something is worse with it, and it was undone. 6: no difference was found, or it is too noisy
    to tell. 1: failure. 2: wrong use.
    """
    from tuneagent.host.terminal import can_ask, is_root, is_terminal
    from tuneagent.node import confirmation
    from tuneagent.report.proof import progress_line, proof_text

    if settings.root or settings.capture:
        raise UsageError("prove works on this machine only")
    if file is None and name is None:
        raise UsageError("give -f FILE or -p NAME")
    if math.isnan(margin):
        raise UsageError("--margin: not a number")
    if not is_root():
        raise UsageError("prove writes settings: run it as root, with sudo")
    metrics = _metrics(names, directions)
    _need_scipy()
    tuner = settings.tuner(file, name, writing=True)
    confirmation.refuse_governed(tuner, force=force)
    from tuneagent.experiments.prove import prove as run

    experiment = Experiment(command, metrics, Limits(time_s, margin / 100), command_limit_s, only)
    if not yes:
        if not can_ask():
            raise UsageError("nothing was written; use --yes to begin")
        _ask(tuner, only, time_s)

    def tell(progress: Progress) -> None:
        if is_terminal():
            click.echo(f"\r\033[K{progress_line(progress)}", err=True, nl=False)

    with any_stop_event() as stop:
        try:
            proof = run(tuner, experiment, stop=stop.is_set, tell=tell, clock=time.monotonic)
        except KeyboardInterrupt:
            click.echo("\ntuneagent: interrupted; the host is as it was", err=True)
            sys.exit(EXIT_INTERRUPTED)
    if is_terminal():
        click.echo("\r\033[K", err=True, nl=False)
    if output == "json":
        emit(proof)
    else:
        click.echo(proof_text(proof))
    if not proof.kept:
        sys.exit(EXIT_UNDONE if any(one.verdict == "worse" for one in proof.metrics) else EXIT_NOTHING_TOLD)


def _ask(tuner: HostTuner, only: tuple[str, ...], time_s: float) -> None:
    """Show what would be switched, and ask. Raises UsageError for no."""
    from tuneagent.report.lines import counted

    name_of = namer(tuner.registry)
    changes = live_plan(tuner, only, name_of).changes
    listed = [f"{name_of(one.tunable, one.subject)} to {in_words(one.desired)}" for one in changes]
    for line in listed[:_SHOWN]:
        click.echo(f"  {line}", err=True)
    asked = f"Switch {counted(len(listed), 'setting')} while the command runs, for {time_s:.0f} s or until it is clear"
    if not click.confirm(f"{asked}, and keep the profile if it helps?", err=True):
        raise UsageError("nothing was written")


def _metrics(names: tuple[str, ...], directions: tuple[str, ...]) -> list[Metric]:
    if len(directions) not in (1, len(names)):
        raise UsageError(f"--better: give it once, or once for each of the {len(names)} metrics")
    if len(set(names)) < len(names):
        raise UsageError("--metric: the same one is given twice")
    each = directions * len(names) if len(directions) == 1 else directions
    return [
        Metric(checked(name), "lower" if direction == "lower" else "higher")
        for name, direction in zip(names, each, strict=True)
    ]


def _need_scipy() -> None:
    """Raise UsageError where the library for the statistics is not installed, before anything is switched."""
    try:
        import scipy.stats  # noqa: F401 - asked for alone: whether it loads
    except ImportError:
        raise UsageError("prove needs scipy: install python3-scipy, or pip install 'tuneagent[prove]'") from None
