"""Settings that a profile may not name, although other tools or older kernels know them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support import session_of, tree
from tuneagent.errors import ProfileInvalid
from tuneagent.host.files import Files
from tuneagent.profile_files.document import Profile
from tuneagent.profile_files.resolve import builtin, builtin_names
from tuneagent.tunables.registry import registry, resolved


@pytest.mark.parametrize(
    "key", ["kernel.sched_min_granularity_ns", "kernel.sched_wakeup_granularity_ns", "kernel.sched_latency_ns"]
)
def test_scheduler_keys_that_are_gone_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="not a key that a profile may set"):
        session_of(tree(Files(str(tmp_path))), {"sysctl": {key: 1000000}}).observe()


def test_noop_is_no_scheduler(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="noop"):
        session_of(tree(Files(str(tmp_path))), {"nvme": {"scheduler": "noop"}}).observe()


@pytest.mark.parametrize("name", builtin_names())
def test_a_shipped_revision_is_that_of_the_resolved_profile(name: str) -> None:
    found = builtin(name)
    assert found is not None and found.shipped
    whole = resolved(found, registry())
    computed = Profile(whole.name, whole.spec).revision
    assert whole.revision == whole.shipped == computed
    # Changed, or taken into another profile, it is not that profile any more.
    changed = msgspec.structs.replace(whole, spec=msgspec.structs.replace(whole.spec, drift="freeze"))
    assert (
        changed.revision != computed
        and found.revision != ""
        and changed.revision == Profile("x", changed.spec).revision
    )
