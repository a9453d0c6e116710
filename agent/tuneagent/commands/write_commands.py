"""Commands that plan, write and take back."""

from __future__ import annotations

import sys

import click

from tuneagent.commands.main import EXIT_FAILED
from tuneagent.commands.options import FILE, ONLY, OUTPUT, PROFILE
from tuneagent.commands.settings import Settings, emit
from tuneagent.contracts.outcome import UndoneDocument
from tuneagent.contracts.report import Verdict, exit_code
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import ApplyResult, Confirm, refuse_unknown
from tuneagent.engine.plan import narrowed
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
    tuner = settings.tuner(file, name)
    refuse_unknown(only, tuner.registry)
    found = tuner.observe()
    made = narrowed(found.plan, only)
    if output == "json":
        emit(made)
    else:
        from tuneagent.report.text import plan_text

        click.echo(plan_text(made))
        unread = found.report.summary[Verdict.UNKNOWN.value]
        if unread:
            click.echo(f"{unread} settings could not be read; audit names them")
    if made.changes or made.refused:
        sys.exit(3)
    sys.exit(exit_code(one for one in found.report.findings if not only or one.tunable in only))


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
def apply(  # noqa: PLR0913 - one for each option of the command
    ctx: click.Context,
    *,
    file: str | None,
    name: str | None,
    output: str,
    only: tuple[str, ...],
    yes: bool,
    digest: str | None,
    max_disruption: str,
    replace: bool,
    force: bool,
    confirm_within: float | None,
) -> None:
    """Bring the host to a profile: journal, write, read back."""
    from tuneagent.node import confirmation
    from tuneagent.report.text import aftermath, outcomes_text, plan_text, undone_text

    tuner = ctx.obj.tuner(file, name, writing=True)
    if not yes:
        refuse_unknown(only, tuner.registry)
        click.echo(plan_text(narrowed(tuner.observe().plan, only)), err=output == "json")
        raise UsageError("nothing was written; --yes writes")
    confirmation.refuse_governed(tuner, force=force)
    confirm = Confirm(confirm_within, lambda by: confirmation.arm(tuner, by)) if confirm_within else None
    with stop_event() as stop:
        applied = tuner.apply(
            digest=digest,
            only=only,
            limit=Disruption(max_disruption),
            over_other=replace,
            confirm=confirm,
            stop=stop.is_set,
        )
    _warn(confirmation.daemon_note(tuner))
    if output == "json":
        emit(applied.document)
    else:
        if applied.recovered:
            click.echo(f"left open by a crash:\n{undone_text(applied.recovered)}\n")
        click.echo(outcomes_text(applied.outcomes))
        click.echo(f"digest {applied.plan.digest}")
    _warn(aftermath(applied.outcomes))
    sys.exit(_applied_code(applied, only))


def _warn(text: str | None) -> None:
    if text is not None:
        click.echo(f"tuneagent: {text}", err=True)


def _applied_code(applied: ApplyResult, only: tuple[str, ...]) -> int:
    if any(outcome.result in ("failed", "skipped") for outcome in applied.outcomes):
        return EXIT_FAILED
    chosen = [finding for finding in applied.after.report.findings if not only or finding.tunable in only]
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

    tuner = settings.tuner(writing=True)
    if unconfirmed:
        results = tuner.revert_unconfirmed() or []
    else:
        refuse_unknown(only, tuner.registry)
        keys = {key for key in tuner.journal.applied() if key[0] in only} if only else None
        results = tuner.undo(keys, force=force)
    if tuner.pending() is None:
        disarm(tuner.host)
    _warn(daemon_note(tuner))
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

    tuner = settings.tuner(writing=True)
    if not tuner.confirm():
        raise UsageError("nothing waits for confirmation")
    disarm(tuner.host)
    click.echo("kept")
