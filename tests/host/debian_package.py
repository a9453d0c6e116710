"""Programs out of Debian's packages, for tests on a machine that has none of them installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def unpacked(folder: Path, *packages: str) -> Path:
    """The files of the packages alone, below `folder`: what they depend on is not needed to read files."""
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True)
    return _unpack(folder, folder / "package")


def with_dependencies(folder: Path, *packages: str, options: Sequence[str] = ()) -> Path:
    """The files of the packages and of what they need that is not installed. `options` are apt's."""
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    words = [word for option in (f"Dir::Cache::archives={archives}", *options) for word in ("-o", option)]
    apt = ["apt-get", "-y", "-qq", "--no-install-recommends", *words, "--download-only", "install"]
    subprocess.run([*apt, *packages], check=True, capture_output=True)
    return _unpack(archives, folder / "root")


def _unpack(archives: Path, target: Path) -> Path:
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", archive, target], check=True)
    return target
