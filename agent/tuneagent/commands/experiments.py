"""The command that measures whether a profile helps."""

from __future__ import annotations

import math
import sys
import time

import click

from tuneagent.commands.main import EXIT_INTERRUPTED
from tuneagent.commands.measuring import EXIT_NOTHING_TOLD, EXIT_WORSE, measure_once, two_times
from tuneagent.commands.options import BETTER, COMMAND_LIMIT, FILE, FOLDER, METRIC, ONLY, PAGE, PROFILE, seconds
from tuneagent.commands.progress import clear_progress, show_progress
from tuneagent.commands.settings import Settings, show
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import UsageError
from tuneagent.experiments.live_arms import live_plan
from tuneagent.experiments.measuring import Probed, Subject
from tuneagent.experiments.metrics import Metric, checked
from tuneagent.experiments.prove import Experiment
from tuneagent.experiments.prove import prove as run
from tuneagent.experiments.trial import Limits, Progress
from tuneagent.formats.spoken_values import in_words
from tuneagent.host.signals import any_stop_event
from tuneagent.node import confirmation

_SHOWN = 12


@click.command()
@FILE
@PROFILE
@ONLY
@PAGE
@click.option(
    "--probe",
    "probes",
    multiple=True,
    metavar="NAME[:CASE]",
    help="A probe to measure by; may be repeated.",
)
@click.option("--command", default="", metavar="CMD", help="Command of the shell that does the work to be measured.")
@METRIC
@BETTER
@click.option("--for", "time_s", callback=seconds, default="10m", show_default=True, metavar="TIME", help="Time limit.")
@COMMAND_LIMIT
@click.option(
    "--margin", type=click.FloatRange(0.1, 50), default=2.0, show_default=True, metavar="PERCENT",
    help="Smallest difference that matters.",
)  # fmt: skip
@click.option(
    "--once", type=click.Choice(("before", "after")),
    help="Measure the host as it is, without a profile: write --state, or compare with it.",
)  # fmt: skip
@click.option("--state", metavar="FILE", type=click.Path(), help="Where `--once before` keeps what it measured.")
@click.option("--against", metavar="FILE", type=click.Path(), help="Compare the host as it is with such a file.")
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
    probes: tuple[str, ...],
    command: str,
    names: tuple[str, ...],
    directions: tuple[str, ...],
    time_s: float,
    command_limit_s: float,
    margin: float,
    once: str | None,
    state: str | None,
    against: str | None,
    yes: bool,
    force: bool,
) -> None:
    """Measure a command or probes with a profile and without it; keep the profile if it helps.

    The profile's live settings are applied and undone again and again meanwhile. Only if a metric is better with it,
    and none is worse, the profile is applied for good; else the host is left as it was.

    For what a reboot changes, measure at two times: `--once before --state FILE`, then `--once after --state FILE`.

    Exit code 0: kept. 5: something is worse with it, and it was undone. 6: no difference was found, or it is too noisy
    to tell. 1: failure. 2: wrong use. 130: interrupted. For the second of two times 0: better, or no difference. 5:
    worse. 6: too noisy to tell.
    """
    from tuneagent.host.terminal import can_ask, is_root

    if settings.root or settings.capture:
        raise UsageError("prove works on this machine only")
    if math.isnan(margin):
        raise UsageError("--margin: not a number")
    read = read_metrics(command, names, directions)
    if not command and not probes:
        raise UsageError("say what to measure: --command with --metric, or --probe NAME")
    need_scipy()

    def subject() -> Subject:
        return Subject(command, read, command_limit_s, probed(settings, probes))

    two = two_times(once, state, against, has_profile=file is not None or name is not None)
    if two is not None:
        sys.exit(measure_once(settings, subject, two, time_s=time_s, margin=margin / 100, output=output))
    if file is None and name is None:
        raise UsageError("give -f FILE or -p NAME")
    if not is_root():
        raise UsageError("prove writes settings: run it as root, with sudo")
    tuner = settings.tuner(file, name, writing=True)
    confirmation.refuse_governed(tuner, force=force)
    experiment = Experiment(subject(), Limits(time_s, margin / 100), only)
    if not yes:
        if not can_ask():
            raise UsageError("nothing was written; use --yes to begin")
        _ask(tuner, only, time_s)
    sys.exit(_compare(tuner, experiment, output))


def _compare(tuner: HostTuner, experiment: Experiment, output: str) -> int:
    """Run the experiment and show what it found. Returns the exit code."""
    from tuneagent.report.experiment_pages import proof_page
    from tuneagent.report.proof import proof_text

    with any_stop_event() as stop:
        try:
            proof = run(tuner, experiment, stop=stop.is_set, tell=_tell, clock=time.monotonic)
        except KeyboardInterrupt:
            click.echo("\ntuneagent: interrupted; the host is as it was", err=True)
            return EXIT_INTERRUPTED
    clear_progress()
    show(proof, output, proof_page, proof_text)
    if proof.kept:
        return 0
    return EXIT_WORSE if any(one.verdict == "worse" for one in proof.metrics) else EXIT_NOTHING_TOLD


def _tell(progress: Progress) -> None:
    from tuneagent.report.proof import progress_line

    show_progress(progress_line(progress))


def probed(settings: Settings, names: tuple[str, ...]) -> list[Probed]:
    """Cases of the probes that this host can measure. Raises UsageError."""
    if not names:
        return []
    from tuneagent.experiments.measuring import probed_cases
    from tuneagent.experiments.probes import Place
    from tuneagent.facts.one_pass import Facts
    from tuneagent.host.processes import usable_cpus

    return probed_cases(names, Facts(settings.host()), Place(usable_cpus(), FOLDER))


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


def read_metrics(command: str, names: tuple[str, ...], directions: tuple[str, ...]) -> list[Metric]:
    """What is read of the command. Raises UsageError."""
    if bool(command) != bool(names):
        raise UsageError("--command and --metric belong together" + ("" if command else ": there is no command"))
    if not names:
        return []
    if len(directions) not in (1, len(names)):
        raise UsageError(f"--better: give it once, or once for each of the {len(names)} metrics")
    if len(set(names)) < len(names):
        raise UsageError("--metric: the same one is given twice")
    each = directions * len(names) if len(directions) == 1 else directions
    return [
        Metric(checked(name), "lower" if direction == "lower" else "higher")
        for name, direction in zip(names, each, strict=True)
    ]


def need_scipy() -> None:
    """Raise UsageError where the library for the statistics is not installed, before anything is switched."""
    try:
        import scipy.stats  # noqa: F401 - asked for alone: whether it loads
    except ImportError:
        raise UsageError("prove needs scipy: install python3-scipy, or pip install 'tuneagent[prove]'") from None
