"""The host tier: the real program as root on this machine. What it writes to the kernel is put back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TUNEAGENT = str(Path(sys.executable).parent / "tuneagent")
KEYS = ("vm.swappiness", "vm.stat_interval", "vm.vfs_cache_pressure", "net.core.somaxconn", "vm.max_map_count")
DEFRAG = Path("/sys/kernel/mm/transparent_hugepage/defrag")


def sysctl_path(key: str) -> Path:
    return Path("/proc/sys") / key.replace(".", "/")


def snapshot() -> dict[str, str]:
    """Everything on this machine that the tests may change, our drop-ins included."""
    found = {key: sysctl_path(key).read_text() for key in KEYS}
    found["defrag"] = DEFRAG.read_text()
    for folder in ("/etc/sysctl.d", "/etc/tmpfiles.d"):
        for path in sorted(Path(folder).glob("*")):
            found[str(path)] = path.read_text() if path.is_file() else ""
    return found


@pytest.fixture
def machine() -> Iterator[dict[str, str]]:
    """State before; sysctls, THP and drop-ins are put back afterwards, whatever happened."""
    before = snapshot()
    yield before
    for key in KEYS:
        if sysctl_path(key).read_text() != before[key]:
            sysctl_path(key).write_text(before[key])
    DEFRAG.write_text(before["defrag"].partition("[")[2].partition("]")[0])
    for name in ("/etc/sysctl.d/99-zz-tuneagent.conf", "/etc/tmpfiles.d/zz-tuneagent.conf"):
        if name not in before:
            Path(name).unlink(missing_ok=True)


def run(*argv: str, check: bool = False, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run(
        [TUNEAGENT, *argv], capture_output=True, text=True, check=check, input=stdin, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


PROFILE = """
apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {name: host-test}
spec:
  tune:
    sysctl: {vm.swappiness: %d, vm.stat_interval: 3, vm.vfs_cache_pressure: 77, net.core.somaxconn: {min: 5555}}
    transparentHugepages: {defrag: defer+madvise}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile of harmless live settings."""
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE % 33)
    return path
