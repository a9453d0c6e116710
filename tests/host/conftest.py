"""The host tier: the real program as root on this machine. What it writes to the kernel is put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import DEFRAG, KEYS, PROFILE, snapshot, sysctl_path


@pytest.fixture
def machine() -> Iterator[dict[str, str]]:
    """State before; sysctls, THP and drop-ins are put back afterwards, whatever happened."""
    before = snapshot()
    yield before
    for key in KEYS:
        if sysctl_path(key).read_text() != before[key]:
            sysctl_path(key).write_text(before[key])
    DEFRAG.write_text(before["defrag"].partition("[")[2].partition("]")[0])
    for name in ("/etc/sysctl.d/99-zz-tuneagent.conf", "/etc/tmpfiles.d/00-00-tuneagent.conf"):
        if name not in before:
            Path(name).unlink(missing_ok=True)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile of harmless live settings."""
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE % 33)
    return path
