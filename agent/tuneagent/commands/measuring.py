"""`prove` without a profile: the host measured at two times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import click

from tuneagent.commands.main import EXIT_INTERRUPTED
from tuneagent.commands.progress import clear_progress, show_progress
from tuneagent.commands.settings import Settings, emit, show
from tuneagent.contracts.measurement import Measurement, Series
from tuneagent.engine.host_tuner import EXPERIMENT_LOCK
from tuneagent.errors import UsageError
from tuneagent.experiments.measuring import Subject, measurer
from tuneagent.experiments.two_times import RUNS, compare, measured, read_measurement, refuse_strangers
from tuneagent.facts.host_name import machine_of
from tuneagent.facts.one_pass import Facts
from tuneagent.host import paths
from tuneagent.host.signals import any_stop_event

EXIT_WORSE, EXIT_NOTHING_TOLD = 5, 6
_LIMIT_BYTES = 16 * 1024 * 1024


class TwoTimes(NamedTuple):
    """Whether this is the first of two times, and the file that holds it."""

    is_first: bool
    file: str


def two_times(once: str | None, state: str | None, against: str | None, *, has_profile: bool) -> TwoTimes | None:
    """What the options ask for; None for an ordinary experiment. Raises UsageError."""
    if once is None and against is None:
        if state is not None:
            raise UsageError("--state belongs to --once")
        return None
    if has_profile:
        raise UsageError("no profile is switched with --once or --against: leave out -f and -p")
    if once is not None and against is not None:
        raise UsageError("--once and --against cannot be used together")
    if once is not None and state is None:
        raise UsageError(f"--once {once} needs --state FILE")
    return TwoTimes(once == "before", state or against or "")


def measure_once(
    settings: Settings, find: Callable[[], Subject], two: TwoTimes, *, time_s: float, margin: float, output: str
) -> int:
    """Measure, then keep it or compare it. `find` tries the probes, which takes its time. Returns the exit code."""
    from tuneagent.report.experiment_pages import again_page
    from tuneagent.report.proof import again_text

    # A file that cannot be used is told before anything is measured.
    before = None if two.is_first else read_measurement(paths.read_given(two.file, _LIMIT_BYTES), two.file)
    if two.is_first:
        paths.refuse_new_file(two.file, "--state")
    if settings.tuner(None, "generic").state.is_locked(EXPERIMENT_LOCK):
        raise UsageError("an experiment is running on this host: what is measured meanwhile says nothing")
    subject = find()
    if before is not None:
        refuse_strangers(before, subject.command, subject.metrics)
    host = machine_of(Facts(settings.host()))
    taken = time.time()
    with any_stop_event() as stop:
        try:
            series = measured(
                measurer(subject, stop.is_set), subject.metrics, time_s, clock=time.monotonic,
                wait=lambda seconds: _pause(stop, seconds), tell=lambda count: show_progress(f"run {count} of {RUNS}"),
            )  # fmt: skip
        except KeyboardInterrupt:
            click.echo("\ntuneagent: interrupted; nothing was written", err=True)
            return EXIT_INTERRUPTED
    clear_progress()
    if before is None:
        return _keep(Measurement(host=host, taken=taken, command=subject.command, metrics=series), two.file, output)
    found = compare(before, host, series, margin)
    show(found, output, again_page, again_text)
    verdicts = {one.verdict for one in found.metrics}
    if "worse" in verdicts:
        return EXIT_WORSE
    return EXIT_NOTHING_TOLD if "too noisy" in verdicts and "better" not in verdicts else 0


def _pause(stop: threading.Event, seconds: float) -> None:
    """Wait. Raises KeyboardInterrupt where it is told to stop meanwhile."""
    if stop.wait(seconds):
        raise KeyboardInterrupt


def _keep(found: Measurement, file: str, output: str) -> int:
    import msgspec

    data = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    paths.write_output(file, data, is_new=True)
    if output == "json":
        emit(found)
    else:
        click.echo(f"{file}: {_counted(found.metrics)}; `tuneagent prove --once after --state {file}` compares with it")
    return 0


def _counted(series: tuple[Series, ...]) -> str:
    from tuneagent.report.lines import counted

    return f"{counted(len(series[0].values), 'run')} of {counted(len(series), 'metric')}"
