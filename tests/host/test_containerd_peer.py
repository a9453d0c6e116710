"""containerd's files as Debian's containerd 1.6 reads them. The cluster tier does the same with 2.2."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from containerd_peer import differences
from tuneagent.formats.containerd_toml import GENERATIONS

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500


def test_random_files_are_read_as_containerd_1_reads_them(tmp_path: Path) -> None:
    # The package alone: what it depends on is not needed to read files.
    subprocess.run(["apt-get", "download", "-qq", "containerd"], cwd=tmp_path, check=True)
    package = next(tmp_path.glob("containerd_*.deb"))
    subprocess.run(["dpkg", "-x", package, tmp_path / "package"], check=True)
    seed = random.SystemRandom().randrange(1 << 32)
    program = tmp_path / "package/usr/bin/containerd"
    assert not differences(program, GENERATIONS[0], tmp_path / "trees", seed, COUNT)
