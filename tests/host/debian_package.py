"""Programs out of Debian's packages, for tests on a machine that has none of them installed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def unpacked(folder: Path, *packages: str) -> Path:
    """The files of the packages alone, below `folder`: what they depend on is not needed to read files."""
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True)
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, folder / "package"], check=True)
    return folder / "package"
