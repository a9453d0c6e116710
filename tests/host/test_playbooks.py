"""Playbooks on this machine: winners kept, whatever ends a run, and what the wheel holds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from machine import TUNEAGENT, run, sysctl_path

ROOT = Path(__file__).parents[2]
SWAPPINESS, CLUSTER = "vm.swappiness", "vm.page-cluster"
COMMAND = "echo tps $((200-$(cat /proc/sys/vm/swappiness)-10*$(cat /proc/sys/vm/page-cluster)))"


@pytest.fixture
def book(machine: dict[str, str], tmp_path: Path) -> str:
    sysctl_path(SWAPPINESS).write_text("60\n")
    hypotheses = [
        {"name": name, "tune": {"sysctl": {key: value}}, "expects": "more", "source": "this test"}
        for name, key, value in (("down", SWAPPINESS, 10), ("dear", CLUSTER, 5), ("cheap", CLUSTER, 1))
    ]
    spec = {
        "title": "t", "workload": "w", "appliesTo": "a", "why": "y", "limitSeconds": 10, "hypotheses": hypotheses,
        "measure": {"command": f"{COMMAND}; sleep 0.05", "metrics": [{"read": r"tps (\d+)"}]},
    }  # fmt: skip
    head = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "Playbook", "metadata": {"name": "tps"}}
    path = tmp_path / "book.yaml"
    path.write_text(yaml.safe_dump({**head, "spec": spec}))
    return str(path)


def values() -> tuple[str, str]:
    return sysctl_path(SWAPPINESS).read_text().strip(), sysctl_path(CLUSTER).read_text().strip()


def test_a_playbook_keeps_what_helps(book: str, tmp_path: Path) -> None:
    before = values()
    state = ("--state-dir", str(tmp_path / "state"))
    profile, results = tmp_path / "won.yaml", tmp_path / "results.jsonl"
    done = run(
        *state, "playbook", "run", book, "--yes", "--write", str(profile), "--results", str(results), "-o", "json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [step["outcome"] for step in found["steps"]] == ["kept", "undone", "kept"]
    assert values() == ("10", "1")
    assert json.loads(results.read_text()) == found
    assert run(*state, "audit", "-f", str(profile)).returncode in (0, 3)
    assert run("profile", "check", str(profile)).returncode == 0
    assert run(*state, "undo").returncode == 0
    assert values() == before


@pytest.mark.parametrize("after_s", [0.5, 1.5, 3.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_the_host_goes_back(book: str, tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    before = values()
    state = ("--state-dir", str(tmp_path / "state"))
    process = subprocess.Popen(
        [TUNEAGENT, *state, "playbook", "run", book, "--yes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(after_s)
    process.send_signal(number)
    process.wait(timeout=60)
    if number == signal.SIGKILL:
        assert run(*state, "undo").returncode == 0
    assert values() == before


def test_the_wheel_has_playbooks_and_kernels(tmp_path: Path) -> None:
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {f"tuneagent/playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yaml")} <= names
        kernels = archive.getinfo("tuneagent/host/tuneagent-kernels")
        assert kernels.external_attr >> 16 & 0o111
