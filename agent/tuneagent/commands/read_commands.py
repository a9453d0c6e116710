"""Commands that read this machine and show one view of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from tuneagent.commands.options import FILE, ONLY, OUTPUT, PROFILE, complete_explained, complete_settings
from tuneagent.commands.settings import Settings, emit
from tuneagent.contracts.report import FailOn, Verdict, exit_code, summarize
from tuneagent.contracts.values import Severity
from tuneagent.engine.assess import unmatched
from tuneagent.errors import UsageError, nearest
from tuneagent.host.terminal import has_colours, is_terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from tuneagent.tunables.registry import Registry


class _ViewName(click.ParamType[str]):
    """`text`, or a view for other programs; the room of views is listed only where its names are needed."""

    name = "view"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """A known name, or a usage error."""
        if value != "text" and value not in _views():
            self.fail(f"{value!r} is not one of {', '.join(_views())}.", param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The names, for help."""
        del param, ctx
        return f"[{'|'.join(_views())}]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin with the text typed."""
        from click.shell_completion import CompletionItem

        del ctx, param
        return [CompletionItem(one) for one in _views() if one.startswith(incomplete)]


def _views() -> list[str]:
    from tuneagent.report.view import view_names

    return ["text", *view_names()]


class _FailOn(click.ParamType[FailOn]):
    """A severity, `not-persisted`, or both separated by a comma."""

    name = "what"

    def convert(self, value: str | FailOn, param: click.Parameter | None, ctx: click.Context | None) -> FailOn:
        """Known words, or a usage error."""
        if isinstance(value, FailOn):
            return value
        known = [*(one.value for one in Severity), Verdict.NOT_PERSISTED.value]
        words = value.split(",")
        wrong = [word for word in words if word not in known]
        if wrong:
            self.fail(f"{wrong[0]!r} is not one of {', '.join(known)}.", param, ctx)
        severities = [Severity(word) for word in words if word != Verdict.NOT_PERSISTED.value]
        if len(severities) > 1:
            self.fail("give one severity.", param, ctx)
        severity = severities[0] if severities else None
        least = severity or Severity.INFO
        return FailOn(least, least if Verdict.NOT_PERSISTED.value in words else None)


@click.command()
@FILE
@PROFILE
@click.option(
    "-o", "--output", type=_ViewName(), default="text", show_default=True,
    help="prom is for node_exporter's textfile collector.",
)  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Also show settings that are as wanted or do not apply.")
@ONLY
@click.option(
    "--severity", type=click.Choice([one.value for one in reversed(Severity)]),
    help="Only settings that matter at least so much; the exit code is about these alone.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit code is the answer.")
@click.option("--fix-commands", is_flag=True, help="Print commands that fix the findings, and nothing else.")
@click.option("--plain", is_flag=True, help="One line per setting, its columns separated by tabs, and nothing else.")
@click.option(
    "--fail-on",
    type=_FailOn(),
    metavar="WHAT",
    help="Exit 3 only for what is wrong now and at least this severe: critical, high, medium, low or info. "
    "With `,not-persisted` also for what is lost at the next boot.",
)
@click.pass_obj
def audit(  # noqa: PLR0913 - one for each option of the command
    settings: Settings,
    *,
    file: str | None,
    name: str | None,
    output: str,
    show_all: bool,
    plain: bool,
    only: tuple[str, ...],
    severity: str | None,
    quiet: bool,
    fix_commands: bool,
    fail_on: FailOn | None,
) -> None:
    """Compare the host with a profile. Writes nothing.

    Exit code 0: everything is as wanted. 3: something is wrong now or at the next boot. 4: nothing is wrong, but
    something is unknown. 1: failure. 2: wrong use or invalid profile.
    """
    tuner = settings.tuner(file, name)
    found = tuner.observe(with_machine=True)
    least = Severity(severity).rank if severity is not None else Severity.INFO.rank
    about = tuple(one for one in found.findings_of(found.chosen(only)) if one.severity.rank >= least)
    report = msgspec.structs.replace(found.report, findings=about, summary=summarize(about))
    if quiet:
        pass
    elif severity is not None and not about and output == "text":
        click.echo(f"NOTHING CHECKED: no setting that was chosen has severity {severity} or more")
    elif fix_commands:
        from tuneagent.report.audit_lines import fix_lines

        click.echo(fix_lines(report, settings.invocation(file, name)))
    elif output == "text":
        from tuneagent.report import audit_lines, audit_screen

        if plain:
            click.echo(audit_lines.report_plain(report, show_all=show_all))
        elif is_terminal() or has_colours():
            text = audit_screen.report_text(report, show_all=show_all, called=settings.invocation(file, name))
            click.echo(text, color=has_colours())
        else:
            click.echo(audit_lines.report_lines(report, show_all=show_all, called=settings.invocation(file, name)))
        for told in unmatched(tuner.profile.spec.accept, found.report.findings):
            click.echo(f"tuneagent: {told}", err=True)
    else:
        from tuneagent.report.view import view

        click.echo(view(output)(report, tuner.host.now()))
    sys.exit(exit_code(report.findings, fail_on))


@click.command()
@OUTPUT
@click.pass_obj
def status(settings: Settings, output: str) -> None:
    """Show what tuneagent has changed on this host."""
    from tuneagent.engine.host_status import status_of
    from tuneagent.report.status import status_text

    settings.refuse_capture()
    tuner = settings.tuner()
    found = status_of(tuner)
    if output == "json":
        emit(found)
    else:
        click.echo(status_text(found, tuner.host.now()))


@click.command()
@click.argument("subject", metavar="SETTING", nargs=-1, required=True, shell_complete=complete_settings)
@FILE
@PROFILE
@click.pass_obj
def why(settings: Settings, subject: tuple[str, ...], file: str | None, name: str | None) -> None:
    """Say why a setting has its value: who set it, what is wanted, what we wrote."""
    from tuneagent.report.story import why_text

    found = settings.tuner(file, name).observe()
    rows = {row for tunable in found.registry.values() for row in tunable.rows}
    click.echo(why_text(" ".join(subject), found.names, found.report, found.applied, found.profile, rows))


@click.command()
@click.argument("tunable", metavar="[NAME]", required=False, shell_complete=complete_explained)
@click.pass_obj
def explain(settings: Settings, tunable: str | None) -> None:
    """Explain a tunable, a setting or a field of a profile."""
    from tuneagent.report.reference import explain_text, field_text, list_text, profile_fields, row_text
    from tuneagent.tunables.registry import registry

    del settings
    known = registry()
    if tunable is None:
        click.echo(list_text(known))
        return
    tunable = _explained(tunable, known)
    if tunable in known:
        click.echo(explain_text(known[tunable]))
        return
    fields = {name.rpartition(".")[2]: name for name in profile_fields()}
    asked = tunable.removeprefix("spec.").replace("[]", "")
    field = fields.get(asked.rpartition(".")[2])
    if field is not None and field.endswith(asked):
        click.echo(field_text(field))
        return
    rows = {row: owner for owner in known.values() for row in owner.rows}
    if tunable not in rows:
        names = (*known, *rows, *fields)
        raise UsageError(f"no tunable, row or field of a profile {tunable!r}{nearest(tunable, names)}")
    owner = rows[tunable]
    click.echo(row_text(tunable, owner.name, owner.describe(f"{owner.prefix}{tunable}")))


def _explained(name: str, known: Registry) -> str:
    """The tunable, row or field that a name means: a setting's printed name leads to its row, or else its tunable."""
    rows = {row for owner in known.values() for row in owner.rows}
    parts = [name, *name.split(":", 1)[1:], *name.split("/")[::-1]]
    return next((part for part in parts if part in rows or part in known), name)


@click.command()
@OUTPUT
@click.pass_obj
def topology(settings: Settings, output: str) -> None:
    """Show CPUs, NUMA nodes, GPUs, NICs and NVMe drives."""
    from tuneagent.facts.gpu_paths import with_paths
    from tuneagent.facts.one_pass import Facts
    from tuneagent.report.picture import topology_text
    from tuneagent.topology.read import read_interrupts

    host = settings.host()
    found = with_paths(Facts(host))
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
    """Compare two machines: `live`, captures, trees or reports."""
    from tuneagent.engine.names import namer
    from tuneagent.report.comparison import comparison_text
    from tuneagent.share.comparison import compare
    from tuneagent.tunables.registry import registry

    reports = [settings.report_of(place, file, name) for place in (left, right)]
    found = compare(reports[0], reports[1], (left, right))
    if output == "json":
        emit(found)
    else:
        click.echo(comparison_text(found, namer(registry())))
    sys.exit(3 if found.differences else 0)


@click.command()
@OUTPUT
@click.pass_obj
def journal(settings: Settings, output: str) -> None:
    """Show what was written, when, for which profile, and what it was before."""
    from tuneagent.contracts.journal import JournalDocument
    from tuneagent.engine.names import namer
    from tuneagent.report.journal import journal_text

    settings.refuse_capture()
    tuner = settings.tuner()
    records = tuner.journal.records()
    if output == "json":
        emit(JournalDocument(records=tuple(records)))
    else:
        click.echo(journal_text(records, namer(tuner.registry), not_understood=len(tuner.journal.foreign())))
