"""Commands that become or stay a process: the daemon, and `run`."""

from __future__ import annotations

import gc
import sys

import click

from tuneagent.commands.options import FILE, complete_profiles
from tuneagent.commands.settings import Settings, load_profile
from tuneagent.errors import UsageError
from tuneagent.host.machine import live_host


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--gpu", default="auto", show_default=True, metavar="IDX|UUID|auto", help="GPU to run next to.")
@click.option("--cpus", default="local", show_default=True, metavar="local|N", help="All its CPUs, or N whole cores.")
@click.option("--memory", type=click.Choice(["bind", "prefer", "none"]), default="prefer", show_default=True)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def run(settings: Settings, gpu: str, cpus: str, memory: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on the CPUs and memory next to its GPU."""
    from tuneagent.formats.cpulist import format_cpulist
    from tuneagent.gpu.ask import read_gpus
    from tuneagent.host.processes import bind_self, environment, own_cpus, replace_self, starter_cpus
    from tuneagent.jobs.launch import RANKS, VARIABLES, bind, choose_gpu, has_own_cpus, keep, rank_of, share_of
    from tuneagent.topology.read import read_topology

    if settings.root or settings.capture:
        raise UsageError("run works on this machine only")
    if cpus != "local" and not (cpus.isdigit() and int(cpus) > 0):
        raise UsageError(f"--cpus {cpus}: expected `local` or a number of cores")
    host = live_host()
    variables = {name: environment(name) for name in VARIABLES}
    gpus, picture = read_gpus(host), read_topology(host)
    chosen = choose_gpu(gpus, gpu, variables)
    if chosen is None:
        click.echo("tuneagent: no GPU is visible here; using the CPUs that are already allowed", err=True)
    own, rank = own_cpus(), rank_of(variables)
    # Where /proc hides who started the ranks, one with fewer CPUs than the node is taken for bound.
    is_rank = any(variables[name] for name in RANKS)
    started_on = (starter_cpus(RANKS) or picture.online) if is_rank else None
    if has_own_cpus(picture, own, started_on, rank):
        click.echo(f"tuneagent: the launcher has bound this rank to CPUs {format_cpulist(own)}", err=True)
        binding = keep(picture, chosen, own) if cpus == "local" else bind(picture, chosen, own, cpus)
    else:
        binding = bind(picture, chosen, own, cpus, share_of(picture, gpus, chosen, rank, variables))
    unbound = bind_self(binding.cpus, memory, binding.nodes)
    if unbound is not None:
        click.echo(f"tuneagent: {unbound}", err=True)
    try:
        replace_self(command)
    except (OSError, ValueError) as error:
        click.echo(f"tuneagent: {command[0]}: {getattr(error, 'strerror', None) or error}", err=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


@click.command()
@FILE
@click.option("-p", "--profile", "name", metavar="NAME", help="Built-in profile.", shell_complete=complete_profiles)
@click.option("--node", metavar="NAME", help="Take the profile from this node's NodeTuning in the cluster.")
@click.option("--interval", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds between passes.")
@click.option("--metrics", metavar="ADDR:PORT", default="127.0.0.1:9632", show_default=True, help="`off` for none.")
@click.pass_obj
def daemon(
    settings: Settings, *, file: str | None, name: str | None, node: str | None, interval: int, metrics: str
) -> None:
    """Check periodically; repair drift if the profile says so."""
    if [file, name, node] == [None, None, None]:
        raise UsageError("give -f FILE, -p NAME or --node NAME")
    if [file, name, node].count(None) != 2:
        raise UsageError("give only one of -f FILE, -p NAME and --node NAME")
    tuner = settings.tuner(None, None, writing=True, is_strict=False)
    # Off for commands that end at once; see __main__.
    gc.enable()
    if node is None:
        from tuneagent.node.standalone import serve_file

        sys.exit(serve_file(tuner, lambda: load_profile(file, name), interval, metrics))
    from tuneagent.node.cluster_agent import serve_cluster

    sys.exit(serve_cluster(tuner, node, interval, metrics))
