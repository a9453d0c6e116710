"""containerd's files as Debian's containerd 1.6 reads them. The cluster tier does the same with 2.2."""

from __future__ import annotations

import os
import random
from pathlib import Path

from containerd_peer import differences
from debian_package import unpacked
from tuneagent.formats.containerd_toml import GENERATIONS

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500


def test_random_files_are_read_as_containerd_1_reads_them(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    program = unpacked(tmp_path, "containerd") / "usr/bin/containerd"
    assert not differences(program, GENERATIONS[0], tmp_path / "trees", seed, COUNT)
