"""containerd's files as the cluster tier's containerd 2.2 reads them. The host tier does the same with 1.6."""

from __future__ import annotations

import os
import random
from pathlib import Path

from containerd_peer import differences
from tuneagent.formats.containerd_toml import GENERATIONS

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 500


def test_random_files_are_read_as_containerd_2_reads_them(cache: Path, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    assert not differences(cache / "bin/containerd", GENERATIONS[1], tmp_path / "trees", seed, COUNT)
