"""The command that tells how much useful work a job does, and where the rest of its time goes."""

from __future__ import annotations

import functools
import gc
import shlex
import time
from typing import TYPE_CHECKING

import click

from tuneagent.commands.options import PAGE, seconds
from tuneagent.commands.settings import Settings, show
from tuneagent.errors import UsageError
from tuneagent.host import paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneagent.contracts.goodput import Goodput
    from tuneagent.experiments.counters import Counter
    from tuneagent.experiments.goodput import Asked, Watcher

_POSITIVE = click.FloatRange(0, min_open=True)


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("--units", metavar="REGEX|file:PATH|URL#METRIC", help="A counter of useful work, and where it is read.")
@click.option("--log", metavar="NAME", help="The log of a known program instead: megatron, nemo.")
@click.option("--unit-name", metavar="WORD", help="What is counted, such as tokens.  [default: units]")
@click.option("--each", is_flag=True, help="Readings tell what came since the one before; they are added up.")
@click.option(
    "--start",
    type=float,
    metavar="N",
    help="Where the counter stands first.  [default: 0; of a job that runs already, its first reading]",
)
@click.option("--peak", type=_POSITIVE, metavar="N", help="Units that are possible each second.")
@click.option("--price", type=_POSITIVE, metavar="DOLLARS", help="Price of an hour.")
@click.option("--pid", type=click.IntRange(1), help="Watch this process, and those that it started, until it ends.")
@click.option("--slurm-job", metavar="ID", help="Watch the processes of a Slurm job on this host.")
@click.option("--cgroup", metavar="NAME", help="Watch the processes of a cgroup, such as the slice of a pod.")
@click.option("--for", "time_s", callback=seconds, metavar="TIME", help="Watch no longer than this.")
@click.option("--write", metavar="FILE", type=click.Path(), help="Write the document as JSON.")
@PAGE
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_obj
def goodput(  # noqa: PLR0913 - one for each option of the command
    settings: Settings,
    *,
    units: str | None,
    log: str | None,
    unit_name: str | None,
    each: bool,
    start: float | None,
    peak: float | None,
    price: float | None,
    pid: int | None,
    slurm_job: str | None,
    cgroup: str | None,
    time_s: float | None,
    write: str | None,
    output: str,
    command: tuple[str, ...],
) -> None:
    """Count the useful work of a command, and tell where the rest of its time went.

    The command's own output goes on as it is; the result follows on standard error, or with `-o json` as the last line
    of standard output. Nothing is set.

    Exit code: that of the command; 0 for processes that were watched.
    """
    from tuneagent.experiments.goodput import Asked, Watcher

    if settings.root or settings.capture:
        raise UsageError("goodput works on this machine only")
    if sum(one is not None for one in (command or None, pid, slurm_job, cgroup)) != 1:
        raise UsageError("give a command behind --, or one of --pid, --slurm-job and --cgroup")
    if units is not None and log is not None:
        raise UsageError("--units and --log cannot be used together")
    if command and time_s is not None:
        raise UsageError("--for is for processes that are watched; a command runs until it ends")
    if write is not None:
        paths.refuse_new_file(write, "--write", may_exist=True)
    counter, unit = _counter(units, log)
    if counter is not None and counter.of_line is not None and not command:
        raise UsageError("the output of a running process cannot be read: use --units file:PATH or URL#METRIC")
    if each and counter is not None and counter.of_line is None:
        raise UsageError("--each is for the lines of a command: a file or a metric is read again each second")
    # It may run for weeks, and leaves cycles behind at each look.
    gc.enable()
    asked = Asked(counter, unit_name or unit, start, each, peak, price)
    if command:
        found, trouble = _run(Watcher(settings.host(), asked, time.monotonic), command)
    else:
        name = cgroup if cgroup is not None else f"job_{slurm_job}"
        found, trouble = _watch(settings, asked, pid, name, time_s)
    _tell(found, write, output, is_command=bool(command))
    if trouble:
        click.echo(f"tuneagent: not all could be watched: {trouble}", err=True)
    raise SystemExit(found.exit_code or 0)


def _counter(units: str | None, log: str | None) -> tuple[Counter | None, str]:
    from tuneagent.experiments.counters import counter_of, counter_of_log

    if log is not None:
        return counter_of_log(log)
    return (counter_of(units) if units is not None else None), "units"


def _run(watcher: Watcher, command: tuple[str, ...]) -> tuple[Goodput, str]:
    from tuneagent.host.job_counters import tree_of
    from tuneagent.host.streamed import run_streamed

    try:
        code = run_streamed(command, watcher.line, lambda pid: watcher.tick(lambda: tree_of(pid)))
    except BaseException:
        watcher.close()
        raise
    return watcher.told(shlex.join(command), code), watcher.trouble


def _watch(settings: Settings, asked: Asked, pid: int | None, name: str, time_s: float | None) -> tuple[Goodput, str]:
    from tuneagent.experiments.goodput import Watcher
    from tuneagent.host.job_counters import in_cgroup, tree_of
    from tuneagent.host.signals import stop_event

    of: Callable[[], list[int]] = (lambda: tree_of(pid)) if pid is not None else (lambda: in_cgroup(name))
    what = f"pid {pid}" if pid is not None else f"cgroup {name}"
    already = of()
    if not already:
        raise UsageError(f"{what}: no such process on this host")
    watcher = Watcher(settings.host(), asked, time.monotonic, already)
    began = time.monotonic()
    with stop_event() as stop:
        while (pids := of()) and not stop.wait(1.0):
            watcher.tick(functools.partial(tuple, pids))
            if time_s is not None and time.monotonic() - began >= time_s:
                break
    return watcher.told(what, None), watcher.trouble


def _tell(found: Goodput, write: str | None, output: str, *, is_command: bool) -> None:
    import msgspec

    from tuneagent.host.terminal import width
    from tuneagent.report.experiment_pages import goodput_page
    from tuneagent.report.goodput import goodput_text

    if write is not None:
        paths.write_output(write, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n", is_new=False)
    if is_command and output == "json":
        # The command's last line may have no end.
        click.echo()
    show(found, output, goodput_page, lambda found: goodput_text(found, width()), err=is_command and output == "text")
