"""Commands that pack what was read for someone elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tuneagent.commands.options import FILE, PROFILE
from tuneagent.commands.settings import Settings, load_profile
from tuneagent.errors import ReadFailed, TuneError, UsageError
from tuneagent.host import paths
from tuneagent.host.files import Files
from tuneagent.profile_files.resolve import builtin, builtin_names

if TYPE_CHECKING:
    from tuneagent.share.bundle import Views


@click.command()
@click.argument("output", metavar="FILE")
@click.option("--with-identifiers", is_flag=True, help="Keep host name, UUIDs and addresses.")
@FILE
@click.pass_obj
def capture(settings: Settings, output: str, with_identifiers: bool, file: str | None) -> None:
    """Pack what an audit reads of this machine into a tar.gz."""
    from tuneagent.share.capture import take
    from tuneagent.tunables.registry import registry, resolved

    profiles = [resolved(found, registry()) for name in builtin_names() if (found := builtin(name))]
    if file is not None:
        profiles.append(load_profile(file, None))
    _write(output, take(settings.host(), profiles, registry(), identifiers=with_identifiers), with_identifiers)


@click.command("support-bundle")
@click.argument("output", metavar="FILE")
@click.option("--with-identifiers", is_flag=True, help="Keep host name, UUIDs and addresses.")
@FILE
@PROFILE
@click.pass_obj
def support_bundle(settings: Settings, output: str, with_identifiers: bool, file: str | None, name: str | None) -> None:
    """Pack audit, plan, journal and capture for someone who can help."""
    from tuneagent.share.bundle import bundle
    from tuneagent.tunables.registry import registry

    tuner = settings.tuner(file, name)
    data = bundle(tuner, [tuner.profile], registry(), views(), identifiers=with_identifiers)
    _write(output, data, with_identifiers)


def views() -> Views:
    """How the parts of a bundle are written for people."""
    from tuneagent.engine.names import namer
    from tuneagent.report.audit_screen import report_text
    from tuneagent.report.journal import journal_text
    from tuneagent.report.picture import topology_text
    from tuneagent.report.reference import profile_text
    from tuneagent.report.text import plan_text
    from tuneagent.share.bundle import Views
    from tuneagent.tunables.registry import registry

    name_of = namer(registry())
    return Views(
        report=lambda report: report_text(report, show_all=True, columns=120),
        plan=lambda plan: plan_text(plan, name_of, 120),
        topology=topology_text,
        journal=lambda records: journal_text(records, name_of, 120),
        profile=profile_text,
    )


def _write(output: str, data: bytes, with_identifiers: bool) -> None:
    """Write the archive readable by its owner only: people decide who else may see it."""
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    path = paths.absolute(output)
    if not paths.is_folder(path.rpartition("/")[0] or "/"):
        raise UsageError(f"{output}: its folder does not exist")
    try:
        Files("/").replace(path, data, mode=0o600)
    except TuneError as error:
        raise ReadFailed(str(error)) from None
    click.echo(
        f"{output}: {len(data)} bytes, readable by you alone; identifiers {'kept' if with_identifiers else 'replaced'}",
        err=True,
    )
