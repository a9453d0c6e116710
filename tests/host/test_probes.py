"""The compiled kernels of the probes on this machine, and experiments that measure by them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from machine import TUNEAGENT, run
from tuneagent.errors import MeasureFailed, Unsupported
from tuneagent.host import kernels

# The venv is made before packages of this tier are installed: without a compiler there is no program to test.
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: the kernels were not built")
CPU = str(min(os.sched_getaffinity(0)))
OTHER = str(max(os.sched_getaffinity(0)))
FOLDER = "/var/tmp"


@pytest.mark.parametrize(
    ("name", "arguments", "count", "least", "most"),
    [
        ("jitter", (CPU, "200"), None, 1e3, 1e9), ("wakeup", (CPU, "500", "100"), 100, 0, 1e9), ("clock", (CPU, "50"), 50, 1, 1e5),
        ("syscall", (CPU, "50"), 50, 10, 1e6), ("touch", (CPU, "0", "base", "64", "2"), 2, 0.01, 100),
        ("chase", (CPU, "0", "base", "64", "3"), 3, 1, 1e4), ("bandwidth", (f"{CPU},{OTHER}", "0", "64", "3"), 3, 0.1, 1e4),
        ("tcp", (CPU, OTHER, "100"), 100, 1e3, 1e9), ("storage", (FOLDER, "32", "sequential", "2"), 4, 0.1, 1e6),
        ("storage", (FOLDER, "32", "random", "1"), 2, 0.1, 1e6),
    ],
)  # fmt: skip
def test_a_kernel_measures(name: str, arguments: tuple[str, ...], count: int | None, least: float, most: float) -> None:
    found = kernels.run_kernel(name, arguments, 60)
    assert count is None or len(found.samples) == count
    assert all(least <= one <= most for one in found.samples)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("chase", (CPU, "900", "base", "1", "1"), "memory of node 900"), ("jitter", ("60000", "1"), "CPU 60000"),
        ("storage", ("/dev/shm", "16", "sequential", "1"), "lies in memory"),
        ("storage", ("/nowhere", "16", "sequential", "1"), "/nowhere"),
    ],
)  # fmt: skip
def test_what_this_machine_lacks_is_unsupported(name: str, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(Unsupported, match=told):
        kernels.run_kernel(name, arguments, 60)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("jitter", ("x", "1")), ("jitter", ("0",)), ("nothing", ()), ("bandwidth", ("3-1", "0", "1", "1"))],
)
def test_a_kernel_refuses_wrong_arguments(name: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(MeasureFailed, match="exit 2"):
        kernels.run_kernel(name, arguments, 60)


def test_a_kernel_that_takes_too_long_is_ended() -> None:
    with pytest.raises(MeasureFailed, match="no answer within"):
        kernels.run_kernel("jitter", (CPU, "30000"), 0.5)


def test_idle_states_are_off_only_while_they_are_asked_to_be() -> None:
    if not Path("/dev/cpu_dma_latency").exists():
        pytest.skip("this kernel has no /dev/cpu_dma_latency")

    def limit() -> int:
        return int.from_bytes(Path("/dev/cpu_dma_latency").read_bytes()[:4], "little", signed=True)

    before = limit()
    with kernels.latency_limit(0):
        assert limit() == 0
    assert limit() == before
    with kernels.latency_limit(None):
        assert limit() == before


def test_probes_of_this_machine() -> None:
    done = run("probe", "run", "clock", "syscall", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["probes"]
    assert [one["outcome"] for one in found] == ["measured", "measured"]
    assert all(case["repeats"] >= 2 and case["noise"] >= 0 for one in found for case in one["cases"])


def test_a_recorded_host_is_compared_with_todays(tmp_path: Path) -> None:
    number, state = tmp_path / "number", str(tmp_path / "before.json")
    number.write_text("100\n")
    measured = ("--command", f"cat {number}", "--metric", r"(\d+)", "--for", "5s")
    assert run("prove", "--once", "before", "--state", state, *measured).returncode == 0
    again = run("prove", "--once", "before", "--state", state, *measured)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    for value, code, word in ((100, 0, "NO DIFFERENCE"), (130, 0, "BETTER"), (80, 5, "WORSE")):
        number.write_text(f"{value}\n")
        done = run("prove", "--once", "after", "--state", state, *measured)
        assert (done.returncode, word in done.stdout) == (code, True), done.stdout + done.stderr
        assert run("prove", "--against", state, *measured).returncode == code


def test_an_interrupted_probe_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [TUNEAGENT, "probe", "run", "jitter"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    assert listed == ""
    running = subprocess.run(["pgrep", "-f", "tuneagent-kernels jitter"], capture_output=True, text=True, check=False)
    assert running.stdout == ""
