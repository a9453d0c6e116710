"""`converged` is hunted on random trees: never for a setting that one thing made wrong touches."""

from __future__ import annotations

import os
import random
from pathlib import Path

import machines
from hunt import untrue
from support import write_tree

COUNT = 20_000 if os.environ.get("TUNEAGENT_SOAK") else 200


def test_what_was_made_wrong_is_never_converged(tmp_path: Path) -> None:
    machine = machines.build({"nodes": 2, "cores": 2, "nvme": [0, 1], "nics": [0], "gpus": [1]})
    write_tree(tmp_path / "machine", machine)
    seed = random.SystemRandom().randrange(1 << 32)
    missed = list(untrue(tmp_path / "machine", tmp_path, seed, COUNT))
    assert not missed, "\n".join(missed[:9])
