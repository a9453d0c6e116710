"""Commands that plan, write and undo."""

from __future__ import annotations

import sys

import click

from tuneagent.commands.main import EXIT_FAILED
from tuneagent.commands.options import FILE, ONLY, OUTPUT, PROFILE, seconds
from tuneagent.commands.settings import Settings, emit
from tuneagent.contracts.outcome import UndoneDocument
from tuneagent.contracts.plan import Plan
from tuneagent.contracts.report import exit_code
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import ApplyResult, Confirm
from tuneagent.engine.names import chosen, namer, names_of
from tuneagent.engine.plan import narrowed
from tuneagent.errors import PlanMoved, UsageError
from tuneagent.host.signals import stop_event
from tuneagent.host.terminal import can_ask


@click.command()
@FILE
@PROFILE
@OUTPUT
@ONLY
@click.pass_obj
def plan(settings: Settings, file: str | None, name: str | None, output: str, only: tuple[str, ...]) -> None:
    """Show what apply would change. Writes nothing."""
    tuner = settings.tuner(file, name)
    found = tuner.observe()
    settings_chosen = found.chosen(only)
    made = narrowed(found.plan, settings_chosen)
    if output == "json":
        emit(made)
    else:
        from tuneagent.report.text import plan_head, plan_text

        head = plan_head(found.report, settings.invocation(file, name))
        click.echo(plan_text(made, namer(tuner.registry), findings=found.findings_of(settings_chosen), head=head))
    if made.changes or made.refused:
        sys.exit(3)
    sys.exit(exit_code(found.findings_of(settings_chosen)))


@click.command()
@FILE
@PROFILE
@OUTPUT
@ONLY
@click.option(
    "--yes", is_flag=True, help="Write without asking. Where tuneagent cannot ask, it writes nothing without this."
)
@click.option("--digest", metavar="D", help="Refuse if the plan no longer has this digest.")
@click.option(
    "--max-disruption", type=click.Choice([d.value for d in Disruption]), default="live", show_default=True,
    help="Most disruptive class of change to make.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Apply over another profile.")
@click.option("--force", is_flag=True, help="Apply although a cluster governs this host.")
@click.option(
    "--confirm-within",
    callback=seconds,
    metavar="TIME",
    help="Undo automatically unless you run `tuneagent confirm` within TIME, such as 5m.",
)
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
    """Apply a profile: record, write, verify."""
    from tuneagent.node import confirmation
    from tuneagent.report.text import aftermath, outcomes_text, plan_head, plan_text, success, undone_text

    tuner = ctx.obj.tuner(file, name, writing=True)
    name_of = namer(tuner.registry)
    if not yes:
        found = tuner.observe()
        settings_chosen = found.chosen(only)
        shown = narrowed(found.plan, settings_chosen)
        head = plan_head(found.report, ctx.obj.invocation(file, name))
        findings = found.findings_of(settings_chosen)
        click.echo(plan_text(shown, name_of, findings=findings, head=head), err=output == "json")
        # Only the plan that was read is written: one that has changed since then is refused.
        digest = _agreed(shown, Disruption(max_disruption), digest)
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
    tuner.forget_reverted()
    _warn(confirmation.daemon_note(tuner))
    if output == "json":
        emit(applied.document)
    else:
        if applied.recovered:
            click.echo(f"left open by a crash:\n{undone_text(applied.recovered, name_of)}\n")
        click.echo(outcomes_text(applied.outcomes, name_of, refused=applied.plan.refused))
        done = success(applied.outcomes, applied.after.report.findings)
        click.echo("\n".join([*([done] if done else []), f"digest {applied.plan.digest}"]))
    _warn(aftermath(applied.outcomes))
    pending = tuner.pending() if confirm is not None else None
    if pending is not None:
        from tuneagent.report.status import confirmation_text

        _warn(confirmation_text(pending.deadline, tuner.host.now(), len(pending.keys)))
    sys.exit(_applied_code(applied))


def _agreed(plan: Plan, limit: Disruption, digest: str | None) -> str:
    """Digest of the plan if the person at the terminal wants it. Raises UsageError where nobody can be asked."""
    count = sum(1 for change in plan.changes if change.disruption.rank <= limit.rank)
    if not count:
        # What would be written is nothing: there is nothing to ask.
        return plan.digest
    if not can_ask():
        raise UsageError("nothing was written; use --yes to write")
    if digest is not None and digest != plan.digest:
        raise PlanMoved(f"the plan now has digest {plan.digest}, not {digest}: review the new plan")
    if not click.confirm(f"Make {'this change' if count == 1 else f'these {count} changes'} now?", err=True):
        click.echo("tuneagent: nothing was written", err=True)
        sys.exit(EXIT_FAILED)
    return plan.digest


def _warn(text: str | None) -> None:
    if text is not None:
        click.echo(f"tuneagent: {text}", err=True)


def _applied_code(applied: ApplyResult) -> int:
    if any(outcome.result in ("failed", "skipped") for outcome in applied.outcomes):
        return EXIT_FAILED
    return exit_code(applied.after.findings_of(applied.chosen))


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
        held = tuner.journal.applied()
        results = tuner.undo(chosen(only, names_of((), held, tuner.registry), tuner.registry), force=force)
    if tuner.pending() is None:
        disarm(tuner)
    _warn(daemon_note(tuner))
    if output == "json":
        emit(UndoneDocument(results=tuple(results)))
    else:
        click.echo(undone_text(results, namer(tuner.registry)))
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
    disarm(tuner)
    click.echo("kept")
