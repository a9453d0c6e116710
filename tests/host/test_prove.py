"""Experiments on this machine: a command whose number follows a setting, one that does not, and deaths in any arm."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import TUNEAGENT, run, snapshot, sysctl_path

TPS = "echo tps $((100-$(cat /proc/sys/vm/swappiness)))"
SWAPPINESS = "vm.swappiness"


@pytest.fixture
def at_sixty(machine: dict[str, str]) -> Iterator[dict[str, str]]:
    """This machine with swappiness 60, put back afterwards."""
    sysctl_path(SWAPPINESS).write_text("60\n")
    yield snapshot()
    sysctl_path(SWAPPINESS).write_text(machine[SWAPPINESS])


def profile(folder: Path, swappiness: int) -> str:
    path = folder / f"p{swappiness}.yaml"
    spec = {"tune": {"sysctl": {SWAPPINESS: swappiness}}}
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": f"p{swappiness}"}}
    path.write_text(json.dumps({**head, "spec": spec}))
    return str(path)


@pytest.mark.parametrize(("wanted", "code", "verdict", "ratio"), [(10, 0, "better", 2.25), (90, 5, "worse", 0.25)])
def test_a_setting_that_matters(
    at_sixty: dict[str, str], tmp_path: Path, wanted: int, code: int, verdict: str, ratio: float
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    told = run(
        *state,
        "prove",
        "-f",
        profile(tmp_path, wanted),
        "--command",
        TPS,
        "--metric",
        r"tps (\d+)",
        "--yes",
        "-o",
        "json",
    )
    assert told.returncode == code, told.stderr
    proof = json.loads(told.stdout)
    (metric,) = proof["metrics"]
    assert (metric["verdict"], round(metric["ratio"], 6)) == (verdict, ratio)
    assert proof["kept"] is (code == 0)
    if proof["kept"]:
        assert sysctl_path(SWAPPINESS).read_text() == f"{wanted}\n"
        assert f"vm.swappiness = {wanted}" in Path("/etc/sysctl.d/99-zz-tuneagent.conf").read_text()
        assert run(*state, "undo").returncode == 0
    assert snapshot() == at_sixty


def test_a_setting_that_does_not_matter(at_sixty: dict[str, str], tmp_path: Path) -> None:
    """Twenty experiments with a noisy command: 2 % of them may tell a difference."""
    command = "echo tps $((1000 + 1$(date +%N) % 30))"
    told = []
    for _ in range(20):
        done = run(
            "--state-dir", str(tmp_path / "state"), "prove", "-f", profile(tmp_path, 10), "--command", command,
            "--metric", "tps", "--yes", "-o", "json",
        )  # fmt: skip
        told.append(json.loads(done.stdout)["metrics"][0]["verdict"])
        if done.returncode == 0:
            run("--state-dir", str(tmp_path / "state"), "undo")
    assert told.count("no difference") >= 18, told
    assert snapshot() == at_sixty


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("[ $(cat /proc/sys/vm/swappiness) = 60 ] && echo tps 4", "with the profile: the command exited 1"),
        ("[ $(cat /proc/sys/vm/swappiness) = 10 ] && echo tps 4", "the command exited 1"),
        ("echo hello", "nothing matches in the output"), ("echo tps -3", "-3 is not a number above 0"),
        ("echo 33 > /proc/sys/vm/swappiness; echo tps 4", "vm.swappiness was changed while the command ran, by it or by someone else (wanted 60, found 33)"),
        ("sleep 60", "still running after 2 s"), ("echo tps 1,234", "'1,234' is not a number"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_compared(at_sixty: dict[str, str], tmp_path: Path, command: str, told: str) -> None:
    done = run(
        "--state-dir", str(tmp_path / "state"), "prove", "-f", profile(tmp_path, 10), "--command", command,
        "--command-limit", "2s", "--metric", "tps", "--yes",
    )  # fmt: skip
    assert done.returncode == 1 and told in done.stderr, done.stderr
    assert snapshot() == at_sixty


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_an_end_in_any_arm(at_sixty: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    argv = [
        TUNEAGENT, "--state-dir", str(tmp_path / "state"), "prove", "-f", profile(tmp_path, 10), "--yes",
        "--command", "sleep 0.05; echo tps $(date +%N)", "--metric", r"tps (\d+)",
    ]  # fmt: skip
    for _ in range(5):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            time.sleep(random.uniform(0.3, 2.5))
            child.send_signal(number)
            child.send_signal(number)
            child.communicate(timeout=60)
        if number is signal.SIGKILL:
            assert run("--state-dir", str(tmp_path / "state"), "undo").returncode == 0
        assert snapshot() == at_sixty


def test_a_daemon_that_runs_is_told_of(at_sixty: dict[str, str], tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    daemon = [TUNEAGENT, *state, "daemon", "-f", profile(tmp_path, 10), "--metrics", "off"]
    with subprocess.Popen(daemon, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        for _ in range(100):
            if run(*state, "status").stdout.count("daemon        running"):
                break
            time.sleep(0.1)
        told = run(*state, "prove", "-f", profile(tmp_path, 10), "--command", TPS, "--metric", "tps", "--yes")
        child.terminate()
    assert told.returncode == 2 and "the daemon runs on this host" in told.stderr
    assert snapshot() == at_sixty


# NumPy asks for huge pages (madvise) where an array is large.
TOUCH = "import time, numpy; began = time.perf_counter(); numpy.ones(1 << 24); print('rate', 1 / (time.perf_counter() - began))"


def test_a_planted_regression_is_caught_and_undone(machine: dict[str, str], tmp_path: Path) -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    before = enabled.read_text()
    enabled.write_text("madvise")
    path = tmp_path / "never.yaml"
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "never"}}
    path.write_text(json.dumps({**head, "spec": {"tune": {"transparentHugepages": {"enabled": "never"}}}}))
    script = tmp_path / "touch.py"
    script.write_text(TOUCH)
    try:
        done = run(
            "--state-dir", str(tmp_path / "state"), "prove", "-f", str(path), "--yes", "--for", "90s", "-o", "json",
            "--command", f"{sys.executable} {script}", "--metric", r"rate ([0-9.]+)",
        )  # fmt: skip
        assert done.returncode == 5, done.stdout + done.stderr
        (metric,) = json.loads(done.stdout)["metrics"]
        assert (metric["verdict"], metric["ratio"] < 0.9) == ("worse", True)
        assert "[madvise]" in enabled.read_text()
    finally:
        enabled.write_text(before.partition("[")[2].partition("]")[0])


def test_status_tells_of_an_experiment(at_sixty: dict[str, str], tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    argv = [
        TUNEAGENT,
        *state,
        "prove",
        "-f",
        profile(tmp_path, 10),
        "--yes",
        "--command",
        f"{TPS}; sleep 0.2",
        "--metric",
        r"tps (\d+)",
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        assert "experiment    running" in run(*state, "status").stdout
        second = run(*state, "prove", "-f", profile(tmp_path, 20), "--yes", "--command", TPS, "--metric", r"tps (\d+)")
        assert (second.returncode, "another experiment is running" in second.stderr) == (2, True)
    finally:
        process.kill()
        process.wait()
    assert json.loads(run(*state, "status", "-o", "json").stdout)["experiment"] == "interrupted"
    assert run(*state, "undo").returncode == 0
    assert json.loads(run(*state, "status", "-o", "json").stdout)["experiment"] is None
    assert sysctl_path(SWAPPINESS).read_text() == "60\n"
