"""Operator and agent start 300 times. Two threads that use a type of msgspec's for the first time together crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("starts.py")


@pytest.mark.parametrize("side", ["operator", "agent"])
def test_three_hundred_starts(side: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-W", "error", str(SCRIPT), side, "300", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {"0": 300}, done.stderr[-2000:]
