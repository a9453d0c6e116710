"""Commands that pack what was read for someone elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from tuneagent.commands.options import FILE, PROFILE
from tuneagent.commands.settings import Settings, load_profile
from tuneagent.errors import ReadFailed, TuneError
from tuneagent.host import Files
from tuneagent.tuning_profile import builtin, builtin_names, resolve


@click.command()
@click.argument("output", metavar="FILE")
@click.option("--with-identifiers", is_flag=True, help="Keep host name, UUIDs and addresses.")
@FILE
@click.pass_obj
def capture(settings: Settings, output: str, with_identifiers: bool, file: str | None) -> None:
    """Pack what an audit reads of this machine into a tar.gz."""
    from tuneagent.capture import take
    from tuneagent.tunables import registry

    profiles = [resolve(found) for name in builtin_names() if (found := builtin(name))]
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
    """Pack audit, plan, journal, profile, topology and a capture for someone who helps."""
    from tuneagent.support import bundle
    from tuneagent.tunables import registry

    session = settings.session(file, name)
    _write(output, bundle(session, [session.profile], registry(), identifiers=with_identifiers), with_identifiers)


def _write(output: str, data: bytes, with_identifiers: bool) -> None:
    """Write the archive for its owner alone: whom it is for is for people to say."""
    path = Path(output).absolute()
    try:
        Files("/").replace(str(path), data, mode=0o600)
    except TuneError as error:
        raise ReadFailed(str(error)) from None
    click.echo(
        f"{output}: {len(data)} bytes, readable by you alone; identifiers {'kept' if with_identifiers else 'replaced'}",
        err=True,
    )
