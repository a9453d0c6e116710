"""Commands that plan, write and take back."""

from __future__ import annotations

import sys
from typing import Any

import click

from tuneagent.commands.options import FILE, ONLY, OUTPUT, PROFILE
from tuneagent.commands.settings import EXIT_FAILED, Settings, emit
from tuneagent.contracts.outcome import UndoneDocument
from tuneagent.contracts.report import Verdict, exit_code
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import refuse_unknown
from tuneagent.errors import UsageError
from tuneagent.host.signals import stop_event


@click.command()
@FILE
@PROFILE
@OUTPUT
@ONLY
@click.pass_obj
def plan(settings: Settings, file: str | None, name: str | None, output: str, only: tuple[str, ...]) -> None:
    """Show what apply would change. Writes nothing."""
    made, judged = settings.session(file, name).plan(only)
    if output == "json":
        emit(made)
    else:
        from tuneagent.report.text import plan_text

        click.echo(plan_text(made))
        unread = sum(1 for item in judged if item.finding.verdict is Verdict.UNKNOWN)
        if unread:
            click.echo(f"{unread} settings could not be read; audit names them")
    if made.changes or made.refused:
        sys.exit(3)
    chosen = [item.finding for item in judged if not only or item.finding.tunable in only]
    sys.exit(exit_code(chosen))


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    del ctx, parameter
    if value is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (value[:-1], value[-1]) if value[-1:] in units else (value, "s")
    if not number.isdigit() or not 1 <= int(number) * units[unit] <= 86400:
        raise click.BadParameter("a time such as 90s, 5m or 1h, at most 24h")
    return float(int(number) * units[unit])


@click.command()
@FILE
@PROFILE
@OUTPUT
@ONLY
@click.option("--yes", is_flag=True, help="Write. Without it the plan is shown and nothing is written.")
@click.option("--digest", metavar="D", help="Refuse if the plan no longer has this digest.")
@click.option(
    "--max-disruption", type=click.Choice([d.value for d in Disruption]), default="live", show_default=True,
    help="Heaviest class of change to make.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Apply over another profile.")
@click.option("--force", is_flag=True, help="Apply although a cluster governs this host.")
@click.option("--confirm-within", callback=_seconds, metavar="TIME", help="Go back unless confirmed in time, as 5m.")
@click.pass_context
def apply(ctx: click.Context, /, file: str | None, name: str | None, output: str, **options: Any) -> None:
    """Bring the host to a profile: journal, write, read back."""
    from tuneagent.node import confirmation
    from tuneagent.report.text import aftermath, outcomes_text, plan_text, undone_text

    session = ctx.obj.session(file, name, writing=True)
    only = options["only"]
    if not options["yes"]:
        made, _ = session.plan(only)
        click.echo(plan_text(made), err=output == "json")
        raise UsageError("nothing was written; --yes writes")
    confirmation.refuse_governed(session, force=options["force"])
    with stop_event() as stop:
        applied = session.apply(
            digest=options["digest"],
            only=only,
            limit=Disruption(options["max_disruption"]),
            replace=options["replace"],
            confirm_within_s=options["confirm_within"],
            arm=lambda deadline: confirmation.arm(session, deadline),
            stop=stop.is_set,
        )
    _warn(confirmation.daemon_note(session))
    if output == "json":
        emit(applied)
    else:
        if applied.recovered:
            click.echo(f"left open by a crash:\n{undone_text(applied.recovered)}\n")
        click.echo(outcomes_text(applied.results))
        click.echo(f"digest {applied.digest}")
    _warn(aftermath(applied.results))
    sys.exit(_applied_code(applied, only))


def _warn(text: str | None) -> None:
    if text is not None:
        click.echo(f"tuneagent: {text}", err=True)


def _applied_code(applied: Any, only: tuple[str, ...]) -> int:
    if any(outcome.result in ("failed", "skipped") for outcome in applied.results):
        return EXIT_FAILED
    chosen = [finding for finding in applied.report.findings if not only or finding.tunable in only]
    return exit_code(chosen)


@click.command()
@OUTPUT
@click.option("--force", is_flag=True, help="Write the baseline even where someone else changed the value.")
@ONLY
@click.option("--unconfirmed", is_flag=True, hidden=True, help="Only what was not confirmed in time.")
@click.pass_obj
def undo(settings: Settings, output: str, force: bool, only: tuple[str, ...], unconfirmed: bool) -> None:
    """Bring everything that tuneagent wrote back to what it was."""
    from tuneagent.node.confirmation import daemon_note, disarm
    from tuneagent.report.text import undone_text

    session = settings.session(writing=True)
    if unconfirmed:
        results = session.revert_unconfirmed() or []
    else:
        refuse_unknown(only, session.registry)
        keys = {key for key in session.journal.held() if key[0] in only} if only else None
        results = session.undo(keys, force=force)
    if session.pending() is None:
        disarm(session.host)
    _warn(daemon_note(session))
    if output == "json":
        emit(UndoneDocument(results=tuple(results)))
    else:
        click.echo(undone_text(results))
    if any(result.result == "failed" for result in results):
        sys.exit(EXIT_FAILED)
    sys.exit(3 if any(not result.is_settled for result in results) else 0)


@click.command()
@click.pass_obj
def confirm(settings: Settings) -> None:
    """Keep what `apply --confirm-within` wrote."""
    from tuneagent.node.confirmation import disarm

    session = settings.session(writing=True)
    if not session.confirm():
        raise UsageError("nothing waits for confirmation")
    disarm(session.host)
    click.echo("kept")
