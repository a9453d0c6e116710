"""Commands about probes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tuneagent.commands.options import FOLDER, OUTPUT, PAGE
from tuneagent.commands.progress import clear_progress, show_progress
from tuneagent.commands.settings import Settings, emit, show
from tuneagent.errors import UsageError

if TYPE_CHECKING:
    from tuneagent.contracts.probe import ProbeReport


@click.group()
def probe() -> None:
    """Measure what a host can do, without a command of yours."""


@probe.command("list")
def list_probes() -> None:
    """Every probe, what it measures, and what it does to the machine."""
    from tuneagent.experiments.probes import PROBES
    from tuneagent.host.terminal import width
    from tuneagent.report.probe import probes_text

    click.echo(probes_text(PROBES, width()))


@probe.command()
@click.argument("names", nargs=-1, metavar="NAME[:CASE]...")
@click.option("--quiet-set", is_flag=True, help="All that tell how quiet a host is; about a minute.")
@click.option("--cpus", metavar="LIST", help="Only on these CPUs.  [default: those that this process may use]")
@click.option("--folder", default=FOLDER, show_default=True, metavar="DIR", help="Where files are read.")
@PAGE
@click.pass_obj
def run(
    settings: Settings, names: tuple[str, ...], *, quiet_set: bool, cpus: str | None, folder: str, output: str
) -> None:
    """Run probes and print what they measured, each with its own noise.

    Nothing is set. What a probe does to the machine meanwhile is in `tuneagent probe list`.

    Exit code 0: something was measured. 1: nothing was. 2: wrong use.
    """
    from tuneagent.experiments.probes import QUIET
    from tuneagent.host.terminal import width
    from tuneagent.report.experiment_pages import probe_page
    from tuneagent.report.probe import report_text

    if not names and not quiet_set:
        raise UsageError("give the NAME of a probe, or --quiet-set; `tuneagent probe list` shows them")
    report = _measured(settings, (*names, *(QUIET if quiet_set else ())), cpus, folder)
    show(report, output, probe_page, lambda found: report_text(found, width()))
    if all(one.outcome != "measured" for one in report.probes):
        raise SystemExit(1)


@click.command("bench-host")
@click.option("--cpus", metavar="LIST", help="Only on these CPUs.  [default: those that this process may use]")
@OUTPUT
@click.pass_obj
def bench_host(settings: Settings, *, cpus: str | None, output: str) -> None:
    """Measure how quiet this host is, and show where it stands beside recorded hosts.

    Takes two to three minutes. Nothing is set. With `-o json` it prints what `probe run --quiet-set` prints; such a
    document can become a record (records/README.md).
    """
    from tuneagent.experiments.probes import QUIET
    from tuneagent.experiments.records import shipped_records, standings
    from tuneagent.host.terminal import width
    from tuneagent.report.probe import standings_text

    records = shipped_records()
    report = _measured(settings, QUIET, cpus, "/")
    if output == "json":
        emit(report)
    else:
        click.echo(standings_text(report, standings(report, records), width()))


def _measured(settings: Settings, names: Sequence[str], cpus: str | None, folder: str) -> ProbeReport:
    """These probes, NAME or NAME:CASE, on this host. Raises UsageError."""
    from tuneagent.contracts.probe import ProbeReport
    from tuneagent.experiments.probes import Place
    from tuneagent.experiments.probing import probe_named, run_probe
    from tuneagent.facts.host_name import machine_of
    from tuneagent.facts.one_pass import Facts
    from tuneagent.facts.processor import processor_model

    if settings.root or settings.capture:
        raise UsageError("probes work on this machine only")
    asked = dict.fromkeys(map(probe_named, names))
    facts = Facts(settings.host())
    place = Place(_cpus(cpus), folder)
    results = tuple(
        run_probe(probe, facts, place, clock=time.monotonic, tell=show_progress, wanted=case) for probe, case in asked
    )
    clear_progress()
    return ProbeReport(host=machine_of(facts), processor=processor_model(facts), probes=results)


def _cpus(given: str | None) -> frozenset[int]:
    """CPUs to measure on. Raises UsageError for others than this process may use."""
    from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
    from tuneagent.host.processes import usable_cpus

    may = usable_cpus()
    if given is None:
        return may
    try:
        wanted = parse_cpulist(given)
    except ValueError as error:
        raise UsageError(f"--cpus {given}: {error}") from None
    if not wanted or wanted - may:
        raise UsageError(f"--cpus {given}: this process may use {format_cpulist(may)}")
    return wanted
