"""All commands on this machine, with live writes that are put back; and fifty deaths in the middle of an apply."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from machine import DEFRAG, PROFILE, TUNEAGENT, run, snapshot, sysctl_path


def test_apply_audit_undo(machine: dict[str, str], profile: Path, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    plan = run(*state, "plan", "-f", str(profile), "-o", "json")
    assert plan.returncode == 3
    digest = json.loads(plan.stdout)["digest"]
    refused = run(*state, "apply", "-f", str(profile))
    assert refused.returncode == 2 and "use --yes to write" in refused.stderr
    assert snapshot() == machine
    applied = run(*state, "apply", "-f", str(profile), "--yes", "--digest", digest, "-o", "json")
    assert applied.returncode == 0, applied.stderr
    assert {one["result"] for one in json.loads(applied.stdout)["results"]} == {"verified"}
    assert sysctl_path("vm.swappiness").read_text() == "33\n"
    assert "[defer+madvise]" in DEFRAG.read_text()
    assert run(*state, "audit", "-f", str(profile)).returncode == 0
    assert run(*state, "plan", "-f", str(profile)).returncode == 0
    assert "33" in run(*state, "why", "-f", str(profile), "vm.swappiness").stdout
    assert run(*state, "journal", "-o", "json").returncode == 0
    undone = run(*state, "undo", "-o", "json")
    assert undone.returncode == 0, undone.stdout
    assert snapshot() == machine


def test_digest_is_stable_under_load_and_refuses_a_moved_plan(
    machine: dict[str, str], profile: Path, tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as load:
        try:
            digests = {
                json.loads(run(*state, "plan", "-f", str(profile), "-o", "json").stdout)["digest"] for _ in range(3)
            }
        finally:
            load.kill()
    assert len(digests) == 1
    sysctl_path("vm.stat_interval").write_text("9\n")
    before = snapshot()
    refused = run(*state, "apply", "-f", str(profile), "--yes", "--digest", digests.pop())
    assert refused.returncode == 1 and "now has digest" in refused.stderr
    assert snapshot() == before


def test_undo_leaves_foreign_changes_alone(machine: dict[str, str], profile: Path, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    assert run(*state, "apply", "-f", str(profile), "--yes").returncode == 0
    sysctl_path("vm.swappiness").write_text("44\n")
    conflict = run(*state, "undo")
    assert conflict.returncode == 3 and "changed by someone else" in " ".join(conflict.stdout.split())
    assert sysctl_path("vm.swappiness").read_text() == "44\n"
    assert run(*state, "undo", "--force").returncode == 0
    assert snapshot() == machine


def test_fifty_deaths(machine: dict[str, str], tmp_path: Path) -> None:
    """SIGKILL at random moments of real applies; after each, undo brings sysctls and drop-ins back."""
    random.seed(7)
    state = ("--state-dir", str(tmp_path / "state"))
    file = tmp_path / "p.yaml"
    started = time.monotonic()
    file.write_text(PROFILE % 20)
    assert run(*state, "apply", "-f", str(file), "--yes").returncode == 0
    whole = time.monotonic() - started
    assert run(*state, "undo").returncode == 0
    survived = 0
    for number in range(50):
        file.write_text(PROFILE % (21 + number))
        process = subprocess.Popen(
            [TUNEAGENT, *state, "apply", "-f", str(file), "--yes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Most of the run is start-up: aim at the part that writes.
        time.sleep(random.uniform(0.5, 1.05) * whole)
        process.send_signal(signal.SIGKILL)
        survived += process.wait() == 0
        if number % 2:
            undone = run(*state, "undo")
            assert undone.returncode == 0, undone.stdout
            assert snapshot() == machine, number
    assert run(*state, "undo").returncode == 0
    assert snapshot() == machine
    print(f"{survived} of 50 ended before they were killed")


def test_strace_sees_no_live_file_and_no_program(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "proc/sys/vm").mkdir(parents=True)
    (tree / "proc/sys/vm/swappiness").write_text("60\n")
    log = tmp_path / "strace"
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=openat,open,execve,execveat", "-o", str(log), TUNEAGENT, "--root", str(tree),
         "audit", "-p", "training", "-o", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    lines = log.read_text().splitlines()
    assert [line for line in lines if '"/proc/sys' in line or '"/sys/' in line] == []
    assert len([line for line in lines if "execve" in line and "= 0" in line]) == 1
    verdicts = {(f["tunable"], f["subject"]): f["verdict"] for f in json.loads(done.stdout)["findings"]}
    assert verdicts[("gpu", "host")] == "unknown"
    assert verdicts[("services", "unit:irqbalance.service")] == "unknown"
    assert verdicts[("sysctl", "key:vm.swappiness")] == "drifted"


def test_run_binds_and_hands_on_the_exit_code() -> None:
    one = run("run", "--cpus", "1", "--", "sh", "-c", "taskset -cp $$; exit 7")
    assert one.returncode == 7
    assert one.stdout.strip().endswith((": 0", ": 1")), one.stdout
    assert run("run", "--cpus", "99", "--", "true").returncode == 2
    assert run("run", "--", "no-such-program").returncode == 127


def test_daemon_repairs_serves_metrics_and_stops(machine: dict[str, str], profile: Path, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    profile.write_text(profile.read_text().replace("spec:\n", "spec:\n  drift: repair\n", 1))
    argv = [TUNEAGENT, *state, "daemon", "-f", str(profile), "--interval", "1", "--metrics", "127.0.0.1:19632"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait(lambda: sysctl_path("vm.swappiness").read_text() == "33\n")
            sysctl_path("vm.swappiness").write_text("50\n")
            _wait(lambda: sysctl_path("vm.swappiness").read_text() == "33\n")
            profile.write_text("not a profile")
            time.sleep(2.5)
            sysctl_path("vm.swappiness").write_text("51\n")
            _wait(lambda: sysctl_path("vm.swappiness").read_text() == "33\n")
            text = urllib.request.urlopen("http://127.0.0.1:19632/metrics", timeout=5).read().decode()
            assert 'tuneagent_findings{verdict="converged"}' in text
            second = run(*state, "daemon", "-f", str(profile), "--metrics", "off")
            assert second.returncode == 2
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "the last good one goes on" in errors and "everything stays as it is" in errors
    assert sysctl_path("vm.swappiness").read_text() == "33\n"
    assert run(*state, "undo").returncode == 0
    assert snapshot() == machine


def test_confirm_within_needs_someone_to_go_back(machine: dict[str, str], profile: Path, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here and can set the timer")
    refused = run(*state, "apply", "-f", str(profile), "--yes", "--confirm-within", "5m")
    assert refused.returncode == 2 and "no daemon runs here" in refused.stderr
    assert snapshot() == machine


def test_unconfirmed_apply_goes_back_by_itself(machine: dict[str, str], profile: Path, tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    watch = tmp_path / "watch.yaml"
    watch.write_text((PROFILE % 60).replace("spec:\n", "spec:\n  drift: report\n", 1))
    argv = [TUNEAGENT, *state, "daemon", "-f", str(watch), "--interval", "1", "--metrics", "off"]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            lock = tmp_path / "state/daemon.lock"
            _wait(lambda: lock.exists() and lock.read_text().strip() == str(process.pid))
            applied = run(*state, "apply", "-f", str(profile), "--yes", "--confirm-within", "3s")
            assert applied.returncode == 0, applied.stderr
            assert sysctl_path("vm.swappiness").read_text() == "33\n"
            _wait(lambda: snapshot() == machine)
            assert run(*state, "confirm").returncode == 2
            applied = run(*state, "apply", "-f", str(profile), "--yes", "--confirm-within", "4s")
            assert run(*state, "confirm").returncode == 0
            time.sleep(6)
            assert sysctl_path("vm.swappiness").read_text() == "33\n"
        finally:
            process.send_signal(signal.SIGTERM)
    assert run(*state, "undo").returncode == 0
    assert snapshot() == machine


def _wait(ready: object, timeout_s: float = 20) -> None:
    assert callable(ready)
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def test_memory_policy_is_the_nodes() -> None:
    code = (
        "from tuneagent.host.processes import bind_self, own_cpus, replace_self; "
        "bind_self(own_cpus(), %r, frozenset({0})); replace_self(['cat', '/proc/self/numa_maps'])"
    )
    for memory, word in (("bind", "bind:0"), ("prefer", "prefer:0"), ("none", "default")):
        argv = [str(Path(TUNEAGENT).parent / "python"), "-c", code % memory]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert f" {word} " in done.stdout, done.stdout[:200]
