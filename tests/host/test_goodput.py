"""goodput on this machine: the command goes on as it is, and is told about in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from machine import TUNEAGENT, run

JOB = """
import sys, time
for step in range(1, 21):
    print("step", step, flush=True)
    print("warning", file=sys.stderr)
    time.sleep(0.05)
sys.stdout.buffer.write(bytes(range(256)))
sys.exit(3)
"""


def test_a_command_keeps_its_output_and_its_exit_code(tmp_path: Path) -> None:
    document = tmp_path / "found.json"
    argv = [
        TUNEAGENT,
        "goodput",
        "--units",
        r"step (\d+)",
        "--unit-name",
        "steps",
        "--peak",
        "40",
        "--write",
        str(document),
    ]
    done = subprocess.run([*argv, "--", sys.executable, "-c", JOB], capture_output=True, check=False, timeout=60)
    assert done.returncode == 3
    assert done.stdout == b"".join(f"step {n}\n".encode() for n in range(1, 21)) + bytes(range(256))
    assert done.stderr.count(b"warning\n") == 20
    assert b"goodput: " in done.stderr
    found = json.loads(document.read_text())
    assert (found["units"], found["exitCode"], found["unit"]) == (20, 3, "steps")
    assert 0 < found["efficiency"] < 0.5
    assert 0.5 < found["productiveShare"] <= 1


def test_a_command_that_cannot_be_started_is_told() -> None:
    done = run("goodput", "--", "/nowhere/at-all")
    assert done.returncode == 1
    assert "/nowhere/at-all: No such file or directory" in done.stderr


def begun(script: str) -> subprocess.Popen[bytes]:
    """A shell under goodput that has said so."""
    argv = [TUNEAGENT, "goodput", "--", "sh", "-c", script]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def test_a_signal_goes_to_the_command() -> None:
    script = "trap 'echo ended; exit 7' TERM; echo begun; while :; do sleep 0.1; done"
    process = begun(script)
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, b"ended\n")
    assert b"exit code 7" in told


def test_what_holds_the_output_open_does_not_hold_us() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [TUNEAGENT, "goodput", "--", "sh", "-c", "sleep 8 & echo done"], capture_output=True, check=False, timeout=30
    )
    assert done.stdout == b"done\n"
    assert time.monotonic() - began < 7


def test_a_running_process_is_watched(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("10\n")
    loop = f"n=10; while :; do n=$((n+1)); echo $n > {counter}.new; mv {counter}.new {counter}; sleep 0.1; done"
    process = subprocess.Popen(["sh", "-c", loop])
    try:
        done = run(
            "goodput",
            "--pid",
            str(process.pid),
            "--units",
            f"file:{counter}",
            "--start",
            "10",
            "--for",
            "4s",
            "-o",
            "json",
        )
    finally:
        process.kill()
        process.wait()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["subject"] == f"pid {process.pid}"
    assert 10 < found["units"] < 60
    assert any(one["name"] == "page faults" for one in found["losses"])


def test_a_signal_that_asks_for_a_checkpoint_goes_to_the_command() -> None:
    script = "trap 'echo saved; exit 0' USR1; echo begun; while :; do sleep 0.1; done"
    process = begun(script)
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=30)[0] == b"saved\n"
    assert process.returncode == 0


def test_a_reader_that_is_slow_loses_nothing() -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    process = subprocess.Popen(
        [TUNEAGENT, "goodput", "--", "head", "-c", "1000000", "/dev/zero"], stdout=write, stderr=subprocess.DEVNULL
    )
    os.close(write)
    os.set_blocking(read, True)
    got = 0
    while piece := os.read(read, 4096):
        got += len(piece)
    os.close(read)
    assert (process.wait(timeout=30), got) == (0, 1_000_000)


def test_a_command_that_writes_elsewhere_is_watched_to_its_end(tmp_path: Path) -> None:
    counter = tmp_path / "n"
    script = f"exec >{tmp_path}/log 2>&1; for n in 1 2 3 4 5 6; do echo $n > {counter}; sleep 0.5; done"
    done = run("goodput", "--units", f"file:{counter}", "-o", "json", "--", "sh", "-c", script)
    found = json.loads(done.stdout)
    assert found["units"] == 6
    assert found["productiveShare"] is not None
    assert any(one["name"] == "page faults" for one in found["losses"])


def test_work_from_before_the_watch_does_not_count(tmp_path: Path) -> None:
    counter = tmp_path / "n"
    counter.write_text("1000000\n")
    loop = f"n=1000000; while :; do n=$((n+1)); echo $n > {counter}.new; mv {counter}.new {counter}; sleep 0.2; done"
    process = subprocess.Popen(["sh", "-c", loop])
    try:
        done = run("goodput", "--pid", str(process.pid), "--units", f"file:{counter}", "--for", "3s", "-o", "json")
    finally:
        process.kill()
        process.wait()
    assert 0 < json.loads(done.stdout)["units"] < 100
