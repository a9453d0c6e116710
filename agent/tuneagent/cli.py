"""Commands of `tuneagent`. No logic: each asks the session and prints one view of the answer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tuneagent import __version__
from tuneagent.command_settings import EXIT_FAILED, CommandGroup, Settings, emit, load_profile, read_profile
from tuneagent.errors import ReadFailed, UsageError
from tuneagent.host import live_host
from tuneagent.model import Disruption, Severity, Verdict, exit_code
from tuneagent.tuning_profile import Profile, builtin, builtin_names, load_yaml, nearest, parse, resolve


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tuneagent")
@click.option("--root", metavar="DIR", help="A tree of another machine's files instead of this machine.")
@click.option("--capture", metavar="FILE", help="A capture of another machine, read only.")
@click.option("--state-dir", metavar="DIR", envvar="TUNEAGENT_STATE_DIR", help="Where journal and lock are kept.")
@click.option("--host-root", metavar="DIR", envvar="TUNEAGENT_HOST_ROOT", hidden=True)
@click.option("--host-pid", type=int, default=1, envvar="TUNEAGENT_HOST_PID", hidden=True)
@click.pass_context
def cli(
    ctx: click.Context,
    root: str | None,
    capture: str | None,
    state_dir: str | None,
    host_root: str | None,
    host_pid: int,
) -> None:
    """Checks, applies and undoes the tuning of a GPU node."""
    if root is not None and capture is not None:
        raise UsageError("--root and --capture exclude each other")
    ctx.obj = Settings(root, capture, state_dir, host_root, host_pid)
    ctx.call_on_close(ctx.obj.stack.close)


_file = click.option("-f", "--file", metavar="FILE", help="Profile to compare with; - is standard input.")
_profile = click.option("-p", "--profile", "name", metavar="NAME", help="Built-in profile.  [default: generic]")
_output = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
_only = click.option("--only", multiple=True, metavar="TUNABLE", help="This tunable alone; may be repeated.")


@cli.command()
@_file
@_profile
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "junit", "prom"]), default="text", show_default=True,
    help="prom is for node_exporter's textfile collector.",
)  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Show converged and unsupported settings too.")
@click.option("--fail-on", type=click.Choice([s.value for s in Severity]), help="Exit 3 only from this severity on.")
@click.pass_obj
def audit(
    settings: Settings, file: str | None, name: str | None, output: str, show_all: bool, fail_on: str | None
) -> None:
    """Compare the host with a profile. Writes nothing."""
    session = settings.session(file, name)
    report = session.audit()
    if output == "json":
        emit(report)
    elif output == "text":
        from tuneagent.report.text import report_text

        click.echo(report_text(report, show_all=show_all))
    else:
        from tuneagent.report.export import junit_text, prometheus_text

        click.echo(junit_text(report) if output == "junit" else prometheus_text(report, session.host.now()))
    sys.exit(exit_code(report.findings, Severity(fail_on) if fail_on else None))


@cli.command()
@_file
@_profile
@_output
@_only
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


@cli.command()
@_file
@_profile
@_output
@_only
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
    from tuneagent import confirmation
    from tuneagent.report.text import outcomes_text, plan_text

    session = ctx.obj.session(file, name, writing=True)
    only = options["only"]
    if not options["yes"]:
        made, _ = session.plan(only)
        click.echo(plan_text(made), err=output == "json")
        raise UsageError("nothing was written; --yes writes")
    confirmation.refuse_governed(session, force=options["force"])
    with stop_on_signals() as stop:
        applied = session.apply(
            digest=options["digest"],
            only=only,
            limit=Disruption(options["max_disruption"]),
            replace=options["replace"],
            confirm_within_s=options["confirm_within"],
            arm=lambda deadline: confirmation.arm(session, deadline),
            stop=stop,
        )
    if output == "json":
        emit(applied)
    else:
        click.echo(outcomes_text(applied.results))
        click.echo(f"digest {applied.digest}")
    sys.exit(_applied_code(applied, only))


def _applied_code(applied: Any, only: tuple[str, ...]) -> int:
    if any(outcome.result in ("failed", "skipped") for outcome in applied.results):
        return EXIT_FAILED
    chosen = [finding for finding in applied.report.findings if not only or finding.tunable in only]
    return exit_code(chosen)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Any]:
    """Ctrl-C and SIGTERM end an apply between two tunables, never inside one."""
    import signal

    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@cli.command()
@_output
@click.option("--force", is_flag=True, help="Write the baseline even where someone else changed the value.")
@click.option("--only", multiple=True, metavar="TUNABLE", help="This tunable alone; may be repeated.")
@click.option("--unconfirmed", is_flag=True, hidden=True, help="Only what was not confirmed in time.")
@click.pass_obj
def undo(settings: Settings, output: str, force: bool, only: tuple[str, ...], unconfirmed: bool) -> None:
    """Bring everything that tuneagent wrote back to what it was."""
    from tuneagent.confirmation import disarm
    from tuneagent.report.text import undone_text

    session = settings.session(writing=True)
    if unconfirmed:
        results = session.revert_unconfirmed() or []
    else:
        unknown = [name for name in only if name not in session.registry]
        if unknown:
            raise UsageError(f"--only {unknown[0]}: no such tunable (known: {', '.join(session.registry)})")
        keys = {key for key in session.journal.held() if key[0] in only} if only else None
        results = session.undo(keys, force=force)
    if session.pending() is None:
        disarm(session.host)
    if output == "json":
        emit({"schema": "tuneagent.dev/undone/v1", "results": results})
    else:
        click.echo(undone_text(results))
    if any(result.result == "failed" for result in results):
        sys.exit(EXIT_FAILED)
    sys.exit(3 if any(not result.is_settled for result in results) else 0)


@cli.command()
@click.pass_obj
def confirm(settings: Settings) -> None:
    """Keep what `apply --confirm-within` wrote."""
    from tuneagent.confirmation import disarm

    session = settings.session(writing=True)
    if not session.confirm():
        raise UsageError("nothing waits for confirmation")
    disarm(session.host)
    click.echo("kept")


@cli.command()
@_output
@click.pass_obj
def journal(settings: Settings, output: str) -> None:
    """Show what was written, when, for which profile, and what it was before."""
    from tuneagent.report.journal import journal_text

    records = settings.session().journal.records()
    if output == "json":
        emit({"schema": "tuneagent.dev/journal/v1", "records": records})
    else:
        click.echo(journal_text(records))


@cli.command()
@click.argument("subject")
@_file
@_profile
@click.pass_obj
def why(settings: Settings, subject: str, file: str | None, name: str | None) -> None:
    """Say why a setting has its value: who set it, what is wanted, what we wrote."""
    from tuneagent.report.journal import why_text

    session = settings.session(file, name)
    click.echo(why_text(subject, session.audit(), session.journal.held(), session.profile))


@cli.command()
@click.argument("tunable", metavar="NAME", required=False)
@click.pass_obj
def explain(settings: Settings, tunable: str | None) -> None:
    """Explain a tunable or a row of one: what it sets, why, how it is undone, where sources disagree."""
    from tuneagent.report.reference import explain_text, list_text, row_text
    from tuneagent.tunables import ROW_PREFIXES, registry, rows_of

    del settings
    known = registry()
    if tunable is None:
        click.echo(list_text(known))
        return
    if tunable in known:
        click.echo(explain_text(known[tunable]))
        return
    rows = {row: owner for owner in ROW_PREFIXES for row in rows_of(known[owner])}
    if tunable not in rows:
        raise UsageError(f"no tunable or row {tunable!r}{nearest(tunable, (*known, *rows))}")
    owner = rows[tunable]
    click.echo(row_text(tunable, owner, known[owner].describe(ROW_PREFIXES[owner] + tunable)))


@cli.command()
@_output
@click.pass_obj
def topology(settings: Settings, output: str) -> None:
    """Show CPUs, NUMA nodes, GPUs, NICs and NVMe drives."""
    from tuneagent.report.picture import topology_text
    from tuneagent.topology import read_interrupts, read_topology

    host = settings.host()
    found = read_topology(host)
    if output == "json":
        emit(found)
    else:
        click.echo(topology_text(found, read_interrupts(host, found)))


@cli.command()
@click.argument("output", metavar="FILE")
@click.option("--with-identifiers", is_flag=True, help="Keep host name, UUIDs and addresses.")
@_file
@click.pass_obj
def capture(settings: Settings, output: str, with_identifiers: bool, file: str | None) -> None:
    """Pack what an audit reads of this machine into a tar.gz."""
    from tuneagent.capture import take
    from tuneagent.tunables import registry

    profiles = [resolve(found) for name in builtin_names() if (found := builtin(name))]
    if file is not None:
        profiles.append(load_profile(file, None))
    data = take(settings.host(), profiles, registry(), identifiers=with_identifiers)
    try:
        Path(output).write_bytes(data)
    except OSError as error:
        raise ReadFailed(f"{output}: {error.strerror}") from None
    click.echo(f"{output}: {len(data)} bytes, identifiers {'kept' if with_identifiers else 'replaced'}", err=True)


@cli.command()
@click.argument("left")
@click.argument("right")
@_file
@_profile
@_output
@click.pass_obj
def diff(settings: Settings, left: str, right: str, file: str | None, name: str | None, output: str) -> None:
    """Compare two machines: each a capture, a tree, a report (audit -o json), or `live`."""
    from tuneagent.comparison import compare
    from tuneagent.report.text import comparison_text

    reports = [settings.report_of(place, file, name) for place in (left, right)]
    found = compare(reports[0], reports[1], (left, right))
    if output == "json":
        emit(found)
    else:
        click.echo(comparison_text(found))
    sys.exit(3 if found.differences else 0)


@cli.command("support-bundle")
@click.argument("output", metavar="FILE")
@click.option("--with-identifiers", is_flag=True, help="Keep host name, UUIDs and addresses.")
@_file
@_profile
@click.pass_obj
def support_bundle(settings: Settings, output: str, with_identifiers: bool, file: str | None, name: str | None) -> None:
    """Pack audit, plan, journal, profile, topology and a capture for someone who helps."""
    from tuneagent.support import bundle
    from tuneagent.tunables import registry

    session = settings.session(file, name)
    data = bundle(session, [session.profile], registry(), identifiers=with_identifiers)
    try:
        Path(output).write_bytes(data)
    except OSError as error:
        raise ReadFailed(f"{output}: {error.strerror}") from None
    click.echo(f"{output}: {len(data)} bytes, identifiers {'kept' if with_identifiers else 'replaced'}", err=True)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: `eval "$(tuneagent completion bash)"`."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "tuneagent", "_TUNEAGENT_COMPLETE").source())


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--gpu", default="auto", show_default=True, metavar="IDX|UUID|auto", help="GPU to be near.")
@click.option("--cpus", default="local", show_default=True, metavar="local|N", help="All its CPUs, or N whole cores.")
@click.option("--memory", type=click.Choice(["bind", "prefer", "none"]), default="prefer", show_default=True)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def run(settings: Settings, gpu: str, cpus: str, memory: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on the CPUs and memory next to its GPU."""
    from tuneagent.gpu import read_gpus
    from tuneagent.host.processes import bind_self, environment, own_cpus, replace_self
    from tuneagent.launch import RANK_VARIABLES, VISIBLE, bind, choose_gpu, rank_of, share_of
    from tuneagent.topology import read_topology

    if settings.root or settings.capture:
        raise UsageError("run works on this machine only")
    if cpus != "local" and not (cpus.isdigit() and int(cpus) > 0):
        raise UsageError(f"--cpus {cpus}: `local` or a number of cores")
    host = live_host()
    names = [VISIBLE, *(name for rank, counts in RANK_VARIABLES for name in (rank, *counts))]
    variables = {name: environment(name) for name in names}
    gpus, picture = read_gpus(host), read_topology(host)
    chosen = choose_gpu(gpus, gpu, variables)
    if chosen is None:
        click.echo("tuneagent: no GPU can be seen here; only the CPUs allowed already are used", err=True)
    share = share_of(picture, gpus, chosen, rank_of(variables), variables)
    binding = bind(picture, chosen, own_cpus(), cpus, share)
    bind_self(binding.cpus, memory, binding.nodes)
    try:
        replace_self(command)
    except (OSError, ValueError) as error:
        click.echo(f"tuneagent: {command[0]}: {getattr(error, 'strerror', None) or error}", err=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


@cli.group()
def profile() -> None:
    """List, show and check profiles."""


@profile.command("list")
def profile_list() -> None:
    """Names of the built-in profiles."""
    for name in builtin_names():
        click.echo(name)


@profile.command("show")
@click.argument("name", required=False)
@_file
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


@profile.group("import")
def profile_import() -> None:
    """Make a profile from another program's."""


@profile_import.command("tuned")
@click.argument("folder", metavar="DIR")
@click.pass_obj
def profile_import_tuned(settings: Settings, folder: str) -> None:
    """Print a TuneD profile as one of ours; lines without a counterpart follow as comments."""
    from tuneagent.report.reference import imported_text
    from tuneagent.tuned_import import convert

    path = folder if settings.root else str(Path(folder).absolute())
    imported = convert(settings.host(), path)
    click.echo(imported_text(imported), nl=False)
    click.echo(f"{len(imported.left)} lines have no counterpart", err=True)


@profile.command("check")
@click.argument("file")
def profile_check(file: str) -> None:
    """Find every fault of a profile file."""
    from tuneagent.tunables import registry, specs_of

    found = load_profile(file, None)
    specs_of(found, registry())
    click.echo(f"{file}: profile {found.name}, revision {found.revision}, is valid")


@cli.command()
@_file
@click.option("--node", metavar="NAME", help="Take the profile from this node's NodeTuning in the cluster.")
@click.option("--interval", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds between passes.")
@click.option("--metrics", metavar="ADDR:PORT", default="127.0.0.1:9632", show_default=True, help="`off` for none.")
@click.pass_obj
def daemon(settings: Settings, file: str | None, node: str | None, interval: int, metrics: str) -> None:
    """Check again and again; repair drift as the profile says."""
    from tuneagent.daemon import serve_cluster, serve_file

    if (file is None) == (node is None):
        raise UsageError("give either -f FILE or --node NAME")
    host_session = settings.session(None, None, writing=True)
    if file is not None:
        path = file
        sys.exit(serve_file(host_session, lambda: load_profile(path, None), interval, metrics))
    sys.exit(serve_cluster(host_session, str(node), interval, metrics))


def main() -> None:
    """Run. Output that cannot be written is a failure that is said, whatever was done before it."""
    if sys.stdout is None:
        sys.stdout = Path("/dev/null").open("w")  # noqa: SIM115 - it lives as long as the process
    try:
        try:
            cli.main(prog_name="tuneagent")
        finally:
            sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer must not be tried again at exit.
        sys.stdout = Path("/dev/null").open("w")  # noqa: SIM115 - it lives as long as the process
        if not isinstance(error, BrokenPipeError):
            click.echo(f"tuneagent: output not written: {error.strerror}", err=True)
        sys.exit(EXIT_FAILED)
