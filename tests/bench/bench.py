"""Figures beside a peer, alternated in one run: `make bench`. Nothing here is a test.

audit against `tuned-adm verify`, apply against TuneD's start-to-applied, both daemons idle, start, audit and apply
against an earlier commit, API writes of an agent.
Needs root, Debian's `tuned` and `dbus`; the last part also the binaries of the cluster tier. All settings are put back.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE.parent), str(HERE.parent / "cluster")]
TUNEAGENT = str(Path(sys.executable).parent / "tuneagent")
PEER = "tuneagent-bench"
# The commit that start, audit and apply are held against.
EARLIER = "0ea4915"
PAIRS = int(os.environ.get("BENCH_PAIRS", "15"))
APPLIES = int(os.environ.get("BENCH_APPLIES", "5"))
IDLE_S = float(os.environ.get("BENCH_IDLE_S", "60"))
IDLE_RUNS = 3
# Thirty live settings for both programs to apply: a TuneD profile of our own, imported.
KEYS = {
    "vm.swappiness": 11, "vm.stat_interval": 2, "vm.vfs_cache_pressure": 90, "vm.page-cluster": 2,
    "vm.watermark_scale_factor": 20, "vm.compaction_proactiveness": 10, "vm.max_map_count": 70000,
    "vm.dirty_expire_centisecs": 2900, "vm.dirty_writeback_centisecs": 600, "vm.min_free_kbytes": 70000,
    "kernel.pid_max": 40000, "kernel.timer_migration": 0, "kernel.hung_task_timeout_secs": 130,
    "kernel.sched_rt_runtime_us": 940000, "kernel.watchdog_thresh": 12, "kernel.shmmni": 4000, "kernel.msgmnb": 16000,
    "fs.aio-max-nr": 70000, "fs.inotify.max_user_instances": 200, "net.core.somaxconn": 5000,
    "net.core.netdev_max_backlog": 1100, "net.core.netdev_budget": 310, "net.core.busy_poll": 1, "net.core.busy_read": 1,
    "net.core.optmem_max": 140000, "net.core.dev_weight": 60, "net.ipv4.tcp_fin_timeout": 50,
    "net.ipv4.tcp_keepalive_time": 7000, "net.ipv4.tcp_max_syn_backlog": 600, "net.ipv4.tcp_retries2": 14,
}  # fmt: skip
PEER_FOLDER = Path("/etc/tuned/tuneagent-bench")


@dataclass(frozen=True)
class Cost:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    rss_mib: float


def measure(argv: list[str], environment: dict[str, str]) -> Cost:
    """Run to the end; the exit code says drift, not failure."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(values: list[float]) -> float:
    return statistics.median(values)


def row(name: str, ours: list[float], theirs: list[float], unit: str) -> None:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(
        f"{name:<28} {median(ours):>9.3f} {median(theirs):>9.3f} {unit:<4} {median(ratios):>6.2f}x  ({len(ours)} pairs)",
        flush=True,
    )


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Put back what either program may have changed."""
    before = {key.replace(".", "/"): Path("/proc/sys", key.replace(".", "/")).read_text() for key in KEYS}
    ahead = {path: path.read_text() for path in Path("/sys/block").glob("*/queue/read_ahead_kb")}
    chosen = {path: path.read_text() for path in Path("/etc/tuned").glob("*profile*") if path.is_file()}
    try:
        PEER_FOLDER.mkdir(parents=True)
        lines = "".join(f"{key}={value}\n" for key, value in KEYS.items())
        (PEER_FOLDER / "tuned.conf").write_text(f"[main]\nsummary=bench\n[sysctl]\n{lines}")
        yield
    finally:
        shutil.rmtree(PEER_FOLDER, ignore_errors=True)
        for name, value in before.items():
            Path("/proc/sys", name).write_text(value)
        # Which profile the peer takes at its next start is the machine's own matter.
        for path, value in {**ahead, **chosen}.items():
            if path.read_text() != value:
                path.write_text(value)


@contextlib.contextmanager
def peer_bus(folder: Path) -> Iterator[dict[str, str]]:
    """A message bus of our own for the peer, on a socket in `folder`."""
    address = f"unix:path={folder}/bus"
    bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"])
    try:
        time.sleep(0.5)
        yield {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
    finally:
        bus.terminate()
        bus.wait()


def start_peer(environment: dict[str, str]) -> tuple[subprocess.Popen[str], float]:
    """The peer's daemon, and the seconds until it says that its profile is applied."""
    started = time.perf_counter()
    argv = ["tuned", "-P", "/tmp/tuneagent-bench-tuned.pid", "-p", PEER]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "applied" in line:
            return process, time.perf_counter() - started
    raise RuntimeError("the peer ended before its profile was applied")


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=20)
    if process.poll() is None:
        process.kill()
        process.wait()


@contextlib.contextmanager
def own_daemon(profile: str, state: str) -> Iterator[int]:
    """Our daemon: its process."""
    argv = [TUNEAGENT, "--state-dir", state, "daemon", "-f", profile, "--metrics", "127.0.0.1:19639"]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.pid
    finally:
        stop(process)


def bench_audit(environment: dict[str, str], profile: str, folder: Path) -> None:
    """Every setting of our largest built-in profile, against the few of the peer's, which asks its daemon."""
    argv = [TUNEAGENT, "--state-dir", str(folder / "state"), "audit", "-p", "training"]
    peer, _ = start_peer(environment)
    ours, theirs = list[Cost](), list[Cost]()
    try:
        before = _cpu_and_rss(peer.pid)[0]
        for _ in range(PAIRS):
            ours.append(measure(argv, environment))
            theirs.append(measure(["tuned-adm", "verify"], environment))
        time.sleep(2)
        asked = (_cpu_and_rss(peer.pid)[0] - before) / PAIRS
    finally:
        stop(peer)
    row("audit | verify: wall", [c.wall_s for c in ours], [c.wall_s for c in theirs], "s")
    # The peer's daemon does a part of its command's work.
    row("audit | verify: CPU", [c.cpu_s for c in ours], [c.cpu_s + asked for c in theirs], "s")
    row("audit | verify: RSS", [c.rss_mib for c in ours], [c.rss_mib for c in theirs], "MiB")


def bench_apply(environment: dict[str, str], profile: str, folder: Path) -> None:
    """The thirty settings applied by each; theirs by a command to its daemon, and from its start, which waits less."""
    state = str(folder / "state")
    argv = [TUNEAGENT, "--state-dir", state, "apply", "--yes", "-f", profile]
    undo = [TUNEAGENT, "--state-dir", state, "undo"]
    ours, theirs, started = list[float](), list[float](), list[float]()
    for _ in range(APPLIES):
        ours.append(measure(argv, environment).wall_s)
        subprocess.run(undo, check=True, stdout=subprocess.DEVNULL)
        peer, seconds = start_peer(environment)
        started.append(seconds)
        subprocess.run(["tuned-adm", "off"], env=environment, check=True, stdout=subprocess.DEVNULL)
        theirs.append(measure(["tuned-adm", "profile", PEER], environment).wall_s)
        stop(peer)
    row("apply | tuned-adm profile", ours, theirs, "s")
    row("apply | start to applied", ours, started, "s")


def bench_earlier(profile: str, folder: Path) -> None:
    """Start, audit and apply of this tree against those of an earlier commit, in turn, each with the other's packages."""
    earlier = folder / "earlier"
    made = subprocess.run(
        ["git", "worktree", "add", "--quiet", "--detach", str(earlier), EARLIER],
        cwd=HERE,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        print(f"no figures beside {EARLIER}: this is no clone that holds it")
        return
    try:
        _beside(profile, folder, str(earlier / "agent"))
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(earlier)], cwd=HERE, check=True)


def _beside(profile: str, folder: Path, earlier: str) -> None:
    code = "import sys; sys.argv[0] = 'tuneagent'; from tuneagent.__main__ import main; main()"
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environments = [
        {**settings, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(folder / f"pycache-{number}")}
        for number, path in enumerate((str(HERE.parents[1] / "agent"), earlier))
    ]
    state = ["--state-dir", str(folder / "earlier-state")]
    commands = {
        "--version": (["--version"], []),
        "audit of training": ([*state, "audit", "-p", "training"], []),
        "apply of thirty": ([*state, "apply", "--yes", "-f", profile], [*state, "undo"]),
    }
    print(f"{'':<28} {'tuneagent':>9} {EARLIER:>9}      ratio")
    for name, (argv, after) in commands.items():
        taken: tuple[list[Cost], list[Cost]] = ([], [])
        for _ in range(PAIRS + 1):
            for costs, environment in zip(taken, environments, strict=True):
                costs.append(measure([sys.executable, "-c", code, *argv], environment))
                if after:
                    undone = [sys.executable, "-c", code, *after]
                    subprocess.run(undone, env=environment, check=True, stdout=subprocess.DEVNULL)
                    shutil.rmtree(folder / "earlier-state", ignore_errors=True)
        # The first of each writes its bytecode.
        ours, theirs = taken[0][1:], taken[1][1:]
        row(f"{name}: wall", [one.wall_s for one in ours], [one.wall_s for one in theirs], "s")
        row(f"{name}: CPU", [one.cpu_s for one in ours], [one.cpu_s for one in theirs], "s")


def bench_journal(folder: Path) -> None:
    """What the journal costs for each change: the same applies with and without it reaching the disk."""
    from support import session_of, tree, write_tree
    from tuneagent.host.files import Files

    class Unsynced(Files):
        def append(self, path: str, data: bytes, *, sync: bool) -> None:
            super().append(path, data, sync=False)

    taken: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(20):
        for name, kind in (("with", Files), ("without", Unsynced)):
            root = folder / f"journal-{number}-{name}"
            files = {f"proc/sys/{key.replace('.', '/')}": "1\n" for key in KEYS}
            write_tree(root, files, ["etc/sysctl.d"])
            session = session_of(tree(kind(str(root))), {"sysctl": KEYS})
            started = time.perf_counter()
            session.apply()
            taken[name].append((time.perf_counter() - started) * 1000 / len(KEYS))
    print(f"journal to disk, per change  {median(taken['with']) - median(taken['without']):.3f} ms of "
          f"{median(taken['with']):.3f} ms ({len(KEYS)} changes, one flush for all)")  # fmt: skip


def bench_growth(folder: Path) -> None:
    """Files read, bytes and time of one audit on made-up machines of 2, 64 and 384 CPUs with eight GPUs."""
    from machines import build, counted_audit
    from support import write_tree

    print("growth                         CPUs     files     bytes        ms")
    for nodes, cores, smt in ((1, 1, 2), (2, 16, 2), (2, 96, 2)):
        root = folder / f"growth-{cores}"
        shape = {
            "nodes": nodes,
            "cores": cores,
            "smt": smt,
            "gpus": [n % nodes for n in range(8)],
            "nics": [0, nodes - 1],
        }
        write_tree(root, build(shape))
        counts = [counted_audit(root) for _ in range(5)]
        files, size, _ = counts[0]
        print(f"{'':<29}{nodes * cores * smt:>6}{files:>10}{size:>10}{median([one[2] for one in counts]):>10.1f}")


def _cpu_and_rss(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    rss = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return cpu, int(rss.group(1)) / 1024 if rss else 0.0


def bench_idle(environment: dict[str, str], profile: str, folder: Path) -> None:
    """Both daemons beside each other with nothing to do."""
    taken = [_idle(environment, profile, str(folder / "state")) for _ in range(IDLE_RUNS)]
    for number, (name, unit) in enumerate((("CPU", "s"), ("RSS", "MiB"), ("PSS", "MiB"))):
        ours, theirs = zip(*(one[number] for one in taken), strict=True)
        row(f"idle {IDLE_S:.0f} s: {name}", list(ours), list(theirs), unit)


def _idle(environment: dict[str, str], profile: str, state: str) -> list[tuple[float, float]]:
    """CPU seconds, resident and proportional memory, ours and the peer's."""
    peer, _ = start_peer(environment)
    try:
        with own_daemon(profile, state) as pid:
            time.sleep(5)
            pids = (pid, peer.pid)
            before = [_cpu_and_rss(one)[0] for one in pids]
            time.sleep(IDLE_S)
            after = [_cpu_and_rss(one) for one in pids]
            shared = [_pss_mib(one) for one in pids]
    finally:
        stop(peer)
        subprocess.run([TUNEAGENT, "--state-dir", state, "undo"], check=False, stdout=subprocess.DEVNULL)
    cpu = [late[0] - early for early, late in zip(before, after, strict=True)]
    # The clock of /proc counts hundredths: less than one is none.
    return [(cpu[0], max(cpu[1], 0.01)), (after[0][1], after[1][1]), (shared[0], shared[1])]


def _pss_mib(pid: int) -> float:
    """Memory of a process, pages that others share counted in part."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def bench_writes(folder: Path) -> None:
    """Status writes of one real daemon on a tree, for a change and while nothing changes."""
    from controlplane import ControlPlane, Started, wait_for
    from simulated import make_node
    from support import write_tree

    cache = Path(subprocess.check_output([HERE.parent / "cluster" / "binaries.sh"], text=True).strip())
    plane = ControlPlane(cache, folder / "plane")
    started = Started(folder / "logs")
    manifests = HERE.parents[1] / "manifests"
    try:
        plane.up()
        for name in ("namespace.yaml", "crds/", "rbac.yaml", "admission.yaml"):
            plane.kubectl("apply", "-f", str(manifests / name))
        token = plane.kubectl("create", "token", "tuneagent-operator", "-n", "tuneagent-system").strip()
        operator = {"KUBECONFIG": str(plane.write_kubeconfig("operator", {"token": token}))}
        started.start("operator", [sys.executable, "-m", "tuneoperator", "--metrics", "off"], operator)
        write_tree(folder / "tree", {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
        credentials = make_node(plane, "bench", {})
        own = {"KUBECONFIG": str(plane.write_kubeconfig("bench", {"token": credentials.token or ""}))}
        argv = [
            TUNEAGENT,
            "--root",
            f"{folder}/tree",
            "daemon",
            "--node",
            "bench",
            "--interval",
            "5",
            "--metrics",
            "127.0.0.1:19640",
        ]
        started.start("agent", argv, own)
        spec = {"allNodes": True, "tune": {"sysctl": {"vm.swappiness": 10}}, "rollout": {"canary": 0, "soakSeconds": 1}}
        head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "bench"}}

        wait_for("agent", lambda: _writes() >= 0)

        def change(value: int) -> float:
            spec["tune"] = {"sysctl": {"vm.swappiness": value}}
            before = _writes()
            plane.kubectl("apply", "-f", "-", stdin=json.dumps({**head, "spec": spec}))
            wait_for("value", lambda: (folder / "tree/proc/sys/vm/swappiness").read_text().strip() == str(value), 90)
            wait_for("Done", lambda: plane.get("nodetuning", "bench")["status"]["rollout"]["phase"] == "Done", 60)
            time.sleep(8)
            return _writes() - before

        change(10)
        print(f"API writes for a change      {change(11):.0f} (agent, without a grant)")
        before = _writes()
        time.sleep(IDLE_S)
        print(f"API writes in {IDLE_S:.0f} s idle     {_writes() - before:.0f} (agent)")
    finally:
        started.stop()
        plane.down()


def _writes() -> float:
    text = urllib.request.urlopen("http://127.0.0.1:19640/metrics", timeout=5).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tuneagent_api_writes_total"))


def facts() -> str:
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // (1 << 20)
    return f"{os.cpu_count()} x {model}, {memory} GiB, kernel {platform.release()}, Python {platform.python_version()}"


def main() -> int:
    if os.geteuid() != 0:
        print("bench: needs root")
        return 1
    # What was changed is put back however this ends, short of SIGKILL.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    lacking = [name for name in ("tuned", "tuned-adm", "dbus-daemon") if shutil.which(name) is None]
    print(facts(), "load", os.getloadavg()[0])
    parts: list[Callable[[dict[str, str], str, Path], None]] = [bench_audit, bench_apply, bench_idle]
    with tempfile.TemporaryDirectory(prefix="tuneagent-bench-") as name, settings_kept():
        folder = Path(name)
        profile = folder / "profile.yaml"
        imported = subprocess.run(
            [TUNEAGENT, "profile", "import", "tuned", PEER_FOLDER], capture_output=True, check=True
        )
        # Our daemon is to be at work, as the peer's is.
        profile.write_bytes(imported.stdout.replace(b"spec:\n", b"spec:\n  drift: repair\n", 1))
        if lacking:
            print(f"no figures beside the peer: {', '.join(lacking)} is missing (packages tuned, dbus)")
        else:
            print(f"{'':<28} {'tuneagent':>9} {'TuneD':>9}      ratio")
            with peer_bus(folder) as environment:
                for part in parts:
                    part(environment, str(profile), folder)
        bench_earlier(str(profile), folder)
        bench_journal(folder)
        bench_growth(folder)
        if shutil.which("go"):
            bench_writes(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
