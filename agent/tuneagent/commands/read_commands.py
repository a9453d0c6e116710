"""Commands that read this machine and show one view of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tuneagent.commands.options import FILE, OUTPUT, PROFILE
from tuneagent.commands.settings import Settings, emit
from tuneagent.contracts.report import exit_code
from tuneagent.contracts.values import Severity
from tuneagent.engine.assess import unmatched
from tuneagent.errors import UsageError, nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _ViewName(click.ParamType[str]):
    """`text`, or a view for other programs; the room of views is listed only where its names are needed."""

    name = "view"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """A known name, or wrong use."""
        if value != "text" and value not in _views():
            self.fail(f"{value!r} is not one of {', '.join(_views())}.", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The names, for help."""
        del param, ctx
        return f"[{'|'.join(_views())}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so."""
        from click.shell_completion import CompletionItem

        del ctx, param
        return [CompletionItem(one) for one in _views() if one.startswith(incomplete)]


def _views() -> list[str]:
    from tuneagent.report.view import view_names

    return ["text", *view_names()]


@click.command()
@FILE
@PROFILE
@click.option(
    "-o", "--output", type=_ViewName(), default="text", show_default=True,
    help="prom is for node_exporter's textfile collector.",
)  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Show converged and unsupported settings too.")
@click.option(
    "--fail-on",
    type=click.Choice([s.value for s in Severity]),
    help="Exit 3 only for what is wrong now and at least as severe.",
)
@click.pass_obj
def audit(
    settings: Settings, file: str | None, name: str | None, output: str, show_all: bool, fail_on: str | None
) -> None:
    """Compare the host with a profile. Writes nothing."""
    tuner = settings.tuner(file, name)
    report = tuner.observe().report
    if output == "text":
        from tuneagent.report.text import report_text

        click.echo(report_text(report, show_all=show_all))
        for told in unmatched(tuner.profile.spec.accept, report.findings):
            click.echo(f"tuneagent: {told}", err=True)
    else:
        from tuneagent.report.view import view

        click.echo(view(output)(report, tuner.host.now()))
    sys.exit(exit_code(report.findings, Severity(fail_on) if fail_on else None))


@click.command()
@click.argument("subject")
@FILE
@PROFILE
@click.pass_obj
def why(settings: Settings, subject: str, file: str | None, name: str | None) -> None:
    """Say why a setting has its value: who set it, what is wanted, what we wrote."""
    from tuneagent.report.journal import why_text

    tuner = settings.tuner(file, name)
    click.echo(why_text(subject, tuner.observe().report, tuner.journal.applied(), tuner.profile))


@click.command()
@click.argument("tunable", metavar="NAME", required=False)
@click.pass_obj
def explain(settings: Settings, tunable: str | None) -> None:
    """Explain a tunable, a row of one or a field of a profile: what it sets, why, how it is undone, who disagrees."""
    from tuneagent.report.reference import explain_text, field_text, list_text, profile_fields, row_text
    from tuneagent.tunables.registry import registry

    del settings
    known = registry()
    if tunable is None:
        click.echo(list_text(known))
        return
    if tunable in known:
        click.echo(explain_text(known[tunable]))
        return
    fields = {name.rpartition(".")[2]: name for name in profile_fields()}
    field = fields.get(tunable.removeprefix("spec.").rpartition(".")[2])
    if field is not None and field.endswith(tunable.removeprefix("spec.")):
        click.echo(field_text(field))
        return
    rows = {row: owner for owner in known.values() for row in owner.rows}
    if tunable not in rows:
        names = (*known, *rows, *fields)
        raise UsageError(f"no tunable, row or field of a profile {tunable!r}{nearest(tunable, names)}")
    owner = rows[tunable]
    click.echo(row_text(tunable, owner.name, owner.describe(f"{owner.prefix}{tunable}")))


@click.command()
@OUTPUT
@click.pass_obj
def topology(settings: Settings, output: str) -> None:
    """Show CPUs, NUMA nodes, GPUs, NICs and NVMe drives."""
    from tuneagent.report.picture import topology_text
    from tuneagent.topology.read import read_interrupts, read_topology

    host = settings.host()
    found = read_topology(host)
    if output == "json":
        emit(found)
    else:
        click.echo(topology_text(found, read_interrupts(host, found)))


@click.command()
@click.argument("left")
@click.argument("right")
@FILE
@PROFILE
@OUTPUT
@click.pass_obj
def diff(settings: Settings, left: str, right: str, file: str | None, name: str | None, output: str) -> None:
    """Compare two machines: each a capture, a tree, a report (audit -o json), or `live`."""
    from tuneagent.report.comparison import comparison_text
    from tuneagent.share.comparison import compare

    reports = [settings.report_of(place, file, name) for place in (left, right)]
    found = compare(reports[0], reports[1], (left, right))
    if output == "json":
        emit(found)
    else:
        click.echo(comparison_text(found))
    sys.exit(3 if found.differences else 0)


@click.command()
@OUTPUT
@click.pass_obj
def journal(settings: Settings, output: str) -> None:
    """Show what was written, when, for which profile, and what it was before."""
    from tuneagent.contracts.journal import JournalDocument
    from tuneagent.report.journal import journal_text

    if settings.capture is not None:
        raise UsageError("--capture: a capture holds no journal; a support bundle does")
    records = settings.tuner().journal.records()
    if output == "json":
        emit(JournalDocument(records=tuple(records)))
    else:
        click.echo(journal_text(records))
