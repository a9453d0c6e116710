"""Settings that a profile may not name, although other tools or older kernels know them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import session_of, tree
from tuneagent.errors import ProfileInvalid
from tuneagent.host.files import Files


@pytest.mark.parametrize(
    "key", ["kernel.sched_min_granularity_ns", "kernel.sched_wakeup_granularity_ns", "kernel.sched_latency_ns"]
)
def test_scheduler_keys_that_are_gone_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="not a key that a profile may set"):
        session_of(tree(Files(str(tmp_path))), {"sysctl": {key: 1000000}}).observe()


def test_noop_is_no_scheduler(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="noop"):
        session_of(tree(Files(str(tmp_path))), {"nvme": {"scheduler": "noop"}}).observe()
