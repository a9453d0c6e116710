"""The real program and what of this machine the host tier may change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def run(
    *argv: str, check: bool = False, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
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
