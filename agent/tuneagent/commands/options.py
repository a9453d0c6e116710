"""Options that several commands share, and what the shell completes for them."""

from __future__ import annotations

import click


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Built-in profiles that begin with the text typed."""
    from tuneagent.profile_files.resolve import builtin_names

    del ctx, param
    return [name for name in builtin_names() if name.startswith(incomplete)]


def complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Tunables, and settings known by their rows, that begin with the text typed. The host is not read."""
    from tuneagent.tunables.registry import registry

    del ctx, param
    known = registry()
    rows = [row for tunable in known.values() if tunable.is_known_by_row for row in tunable.rows]
    return [name for name in (*known, *rows) if name.startswith(incomplete)]


def complete_explained(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What `explain` explains: tunables, all rows, and fields of a profile."""
    from tuneagent.report.reference import profile_fields
    from tuneagent.tunables.registry import registry

    del ctx, param
    known = registry()
    rows = [row for tunable in known.values() for row in tunable.rows]
    return sorted({name for name in (*known, *rows, *profile_fields()) if name.startswith(incomplete)})


def seconds(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds of a time such as 90s, 5m or 1h. Raises BadParameter."""
    del ctx, parameter
    if value is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (value[:-1], value[-1]) if value[-1:] in units else (value, "s")
    if not number.isdigit() or not 1 <= int(number) * units[unit] <= 86400:
        raise click.BadParameter("a time such as 90s, 5m or 1h, at most 24h")
    return float(int(number) * units[unit])


# Where the probe `storage-read` writes its file.
FOLDER = "/var/tmp"  # noqa: S108 - it lies on a disk, and the file has no name
FILE = click.option("-f", "--file", metavar="FILE", type=click.Path(), help="Profile file; - is standard input.")
PROFILE = click.option(
    "-p", "--profile", "name", metavar="NAME", help="Built-in profile.  [default: generic]",
    shell_complete=complete_profiles,
)  # fmt: skip
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
PAGE = click.option("-o", "--output", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
PAGE = click.option("-o", "--output", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
ONLY = click.option(
    "--only", multiple=True, metavar="NAME", help="Only this tunable or setting; may be repeated.",
    shell_complete=complete_settings,
)  # fmt: skip
METRIC = click.option(
    "--metric", "names", multiple=True, metavar="REGEX|json:PATH|file:PATH",
    help="Its result: the number that an expression finds last, a path in its JSON, or a file. May be repeated.",
)  # fmt: skip
BETTER = click.option(
    "--better", "directions", multiple=True, type=click.Choice(("higher", "lower")), default=("higher",),
    show_default=True, help="Which direction is better; once for all metrics, or once for each.",
)  # fmt: skip
COMMAND_LIMIT = click.option(
    "--command-limit", "command_limit_s", callback=seconds, default="10m", show_default=True, metavar="TIME",
    help="Time limit of one run of the command.",
)  # fmt: skip
