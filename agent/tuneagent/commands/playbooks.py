"""Commands about playbooks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from tuneagent.commands.experiments import need_scipy, probed, read_metrics
from tuneagent.commands.main import EXIT_FAILED, EXIT_INTERRUPTED
from tuneagent.commands.measuring import EXIT_NOTHING_TOLD, EXIT_WORSE
from tuneagent.commands.options import BETTER, COMMAND_LIMIT, METRIC, PAGE, seconds
from tuneagent.commands.progress import clear_progress, show_progress
from tuneagent.commands.settings import Settings
from tuneagent.commands.settings import show as show_document
from tuneagent.errors import UsageError
from tuneagent.host import paths

if TYPE_CHECKING:
    from tuneagent.contracts.playbook import Playbook, PlaybookResult
    from tuneagent.experiments.trial import Progress


@click.group()
def playbook() -> None:
    """Try what others found to help, one change at a time."""


@playbook.command("list")
def list_playbooks() -> None:
    """Playbooks that come with the program."""
    from tuneagent.experiments.playbook_files import read_playbook, shipped_playbooks
    from tuneagent.host.terminal import width
    from tuneagent.report.playbook import playbooks_text
    from tuneagent.tunables.registry import registry

    click.echo(playbooks_text([read_playbook(name, registry()) for name in shipped_playbooks()], width()))


@playbook.command()
@click.argument("name", metavar="NAME|FILE")
def show(name: str) -> None:
    """One playbook: its hypotheses, their sources, and what is disputed. Faults of a file are shown."""
    from tuneagent.host.terminal import width
    from tuneagent.report.playbook import playbook_text

    click.echo(playbook_text(_read(name), width()))


@playbook.command()
@click.argument("name", metavar="NAME|FILE")
@click.option("--command", default="", metavar="CMD", help="Measure by a command of yours instead.")
@METRIC
@BETTER
@click.option(
    "--for", "time_s", callback=seconds, metavar="TIME", help="Time for each hypothesis.  [default: the playbook's]"
)
@COMMAND_LIMIT
@click.option("--leave-one-out", is_flag=True, help="In the end, measure the winners without each of them too.")
@click.option("--write", metavar="FILE", type=click.Path(), help="Write the winners as a profile.")
@click.option("--results", metavar="FILE", type=click.Path(), help="Append the result to this file, as a line of JSON.")
@click.option("--yes", is_flag=True, help="Begin without asking.")
@click.option("--force", is_flag=True, help="Although a cluster governs this host.")
@PAGE
@click.pass_obj
def run(  # noqa: PLR0913 - one for each option of the command
    settings: Settings,
    name: str,
    *,
    command: str,
    names: tuple[str, ...],
    directions: tuple[str, ...],
    time_s: float | None,
    command_limit_s: float,
    leave_one_out: bool,
    write: str | None,
    results: str | None,
    yes: bool,
    force: bool,
    output: str,
) -> None:
    """Try each hypothesis of a playbook on this host, and keep what helps.

    Each is measured on top of those that were kept before it, then all winners against the host without them. Only if
    these help together they are applied for good; else the host is left as it was.

    Exit code 0: kept. 5: something is worse with all winners. 6: nothing helps. 1: failure. 2: wrong use. 130:
    interrupted.
    """
    from tuneagent.experiments.measuring import Subject
    from tuneagent.experiments.playbook_run import Watch, run_playbook
    from tuneagent.experiments.trial import Limits
    from tuneagent.host.signals import any_stop_event
    from tuneagent.host.terminal import can_ask, is_root
    from tuneagent.node import confirmation

    if settings.root or settings.capture:
        raise UsageError("playbooks are run on this machine only; `tuneagent playbook show` needs none")
    book = _read(name)
    given = read_metrics(command, names, directions)
    if not is_root():
        raise UsageError("a playbook writes settings: run it as root, with sudo")
    need_scipy()
    if write is not None:
        paths.refuse_new_file(write, "--write")
    if results is not None:
        paths.refuse_new_file(results, "--results", may_exist=True)
    tuner = settings.tuner(None, "generic", writing=True)
    confirmation.refuse_governed(tuner, force=force)
    if given:
        subject = Subject(command, given, command_limit_s)
    else:
        measure = book.spec.measure
        own = read_metrics(
            measure.command, tuple(one.read for one in measure.metrics), tuple(one.better for one in measure.metrics)
        )
        subject = Subject(measure.command, own, command_limit_s, probed(settings, measure.probes))
    limit_s = time_s if time_s is not None else float(book.spec.limit_seconds)
    if not yes:
        if not can_ask():
            raise UsageError("nothing was written; use --yes to begin")
        _ask(book, limit_s)

    def tell(step: str, progress: Progress) -> None:
        from tuneagent.report.proof import progress_line

        show_progress(f"{step}: {progress_line(progress)}")

    with any_stop_event() as stop:
        watch = Watch(stop.is_set, tell, time.monotonic, time.time())
        limits = Limits(limit_s, book.spec.margin_percent / 100)
        try:
            found = run_playbook(tuner, book, subject, limits, watch, leave_one_out=leave_one_out)
        except KeyboardInterrupt:
            click.echo("\ntuneagent: interrupted; the host is as it was", err=True)
            raise SystemExit(EXIT_INTERRUPTED) from None
    clear_progress()
    # Nobody may read the output any more: what is kept comes first.
    _keep(found, write, results)
    raise SystemExit(_shown(found, output))


def _read(name: str) -> Playbook:
    from tuneagent.experiments.playbook_files import read_playbook
    from tuneagent.tunables.registry import registry

    return read_playbook(name, registry())


def _ask(book: Playbook, limit_s: float) -> None:
    """Say what will be tried, and ask. Raises UsageError for no."""
    from tuneagent.report.lines import counted

    for one in book.spec.hypotheses:
        click.echo(f"  {one.name}", err=True)
    what = counted(len(book.spec.hypotheses), "change")
    longest = (len(book.spec.hypotheses) + 1) * limit_s / 60
    if not click.confirm(f"Try {what} on this host, {longest:.0f} minutes at most, and keep what helps?", err=True):
        raise UsageError("nothing was written")


def _keep(found: PlaybookResult, write: str | None, results: str | None) -> None:
    import msgspec

    if write is not None and found.profile:
        paths.write_output(write, found.profile.encode(), is_new=True)
        click.echo(f"{write}: the winners as a profile", err=True)
    if results is not None:
        paths.append_output(results, msgspec.json.encode(found) + b"\n")


def _shown(found: PlaybookResult, output: str) -> int:
    from tuneagent.experiments.playbook_run import ALL
    from tuneagent.host.terminal import width
    from tuneagent.report.experiment_pages import playbook_page
    from tuneagent.report.playbook import result_text

    show_document(found, output, playbook_page, lambda found: result_text(found, width()))
    if found.final is not None and found.final.kept:
        return 0
    if any(step.name == ALL for step in found.left_out):
        return EXIT_FAILED
    outcomes = {step.outcome for step in found.steps}
    if "failed" in outcomes and not outcomes & {"kept", "undone"}:
        return EXIT_FAILED
    is_worse = found.final is not None and any(one.verdict == "worse" for one in found.final.metrics)
    return EXIT_WORSE if is_worse else EXIT_NOTHING_TOLD
