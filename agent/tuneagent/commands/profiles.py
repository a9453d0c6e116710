"""Commands about profiles; none touches the machine."""

from __future__ import annotations

import click

from tuneagent.commands.options import FILE, complete_profiles
from tuneagent.commands.settings import ProfileText, Settings, load_profile, read_profile
from tuneagent.errors import UsageError, nearest
from tuneagent.formats.yaml_document import load_yaml
from tuneagent.host import paths
from tuneagent.profile_files.document import Profile, parse
from tuneagent.profile_files.resolve import builtin, builtin_names, builtin_purpose


@click.group()
def profile() -> None:
    """List, show and check profiles."""


@profile.command("list")
def profile_list() -> None:
    """Built-in profiles, and what each is for."""
    from tuneagent.host.terminal import width
    from tuneagent.report.lines import Row, rows_text

    rows = [Row("", name, "", builtin_purpose(name)) for name in builtin_names()]
    click.echo("\n".join(rows_text(rows, width())))


@profile.command("show")
@click.argument("name", required=False, shell_complete=complete_profiles)
@FILE
@click.option("--resolved", is_flag=True, help="With everything it extends, and where each tunable came from.")
def profile_show(name: str | None, file: str | None, resolved: bool) -> None:
    """Print a profile as YAML."""
    from tuneagent.report.reference import profile_text

    if resolved:
        found: Profile | None = load_profile(file, name)
    else:
        found = parse(load_yaml(read_profile(file), file), file) if file else builtin(name or "generic")
    if found is None:
        raise UsageError(f"no built-in profile {name!r}{nearest(name or '', builtin_names())}")
    click.echo(profile_text(found), nl=False)


@profile.command("new")
@click.argument("name")
@click.pass_obj
def profile_new(settings: Settings, name: str) -> None:
    """Print a starting profile, made for this host, with comments."""
    import importlib.resources

    from tuneagent.profile_files.document import NAME_PATTERN
    from tuneagent.report.starting_profile import starting_profile

    if not NAME_PATTERN.match(name):
        raise UsageError(f"{name!r} is not a DNS label of at most 63 characters")
    found = settings.tuner().observe(with_machine=True)
    schema = importlib.resources.files("tuneagent.contracts") / "schemas/profile.schema.json"
    nodes = len(found.facts.topology.nodes)
    click.echo(starting_profile(name, found.report.host, nodes, str(schema)), nl=False)


@profile.group("import")
def profile_import() -> None:
    """Make a profile from another program's."""


@profile_import.command("tuned")
@click.argument("folder", metavar="DIR")
@click.pass_obj
def profile_import_tuned(settings: Settings, folder: str) -> None:
    """Print a TuneD profile as one of ours; lines without a counterpart follow as comments."""
    from tuneagent.interop.tuned import convert
    from tuneagent.report.reference import imported_text

    path = folder if settings.root else paths.absolute(folder)
    imported = convert(settings.host(), path)
    click.echo(imported_text(imported), nl=False)
    count = len(imported.left)
    click.echo(f"{count} line{' has' if count == 1 else 's have'} no counterpart", err=True)


@profile.command("check")
@click.argument("file")
@click.pass_obj
def profile_check(settings: Settings, file: str) -> None:
    """Find every fault of a profile file."""
    from tuneagent.tunables.registry import checked, registry

    settings.document = ProfileText(file, read_profile(file))
    found = checked(load_yaml(settings.document.text, file), file, registry())[1]
    click.echo(f"{file}: profile {found.name}, revision {found.revision}, is valid")
