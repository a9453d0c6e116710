"""Every printed name of a setting leads back to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from captured_hosts import HOSTS, tuner_of
from tuneagent.engine.names import chosen, namer, settings_named, short
from tuneagent.errors import UsageError
from tuneagent.tunables.registry import registry

GPU = "GPU-9c2b1d34-1111-2222-3333-444455556666"
NAMES = {
    ("sysctl", "key:vm.swappiness"): "vm.swappiness",
    ("cpuGovernor", "cpu:0"): "cpuGovernor/cpu:0",
    ("cpuGovernor", "cpu:1"): "cpuGovernor/cpu:1",
    ("gpuHealth", f"gpu:{GPU}/noThrottle"): f"gpuHealth/{GPU}/noThrottle",
    ("gpuHealth", "gpu:GPU-9c2b9999-1111-2222-3333-444455556666/noThrottle"): (
        "gpuHealth/GPU-9c2b9999-1111-2222-3333-444455556666/noThrottle"
    ),
}


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("vm.swappiness", 1), ("key:vm.swappiness", 1), ("sysctl/vm.swappiness", 1), ("sysctl vm.swappiness", 1),
        ("sysctl key:vm.swappiness", 1), ("sysctl", 1), ("cpuGovernor", 2), ("cpuGovernor/cpu:1", 1), ("cpu:1", 1),
        (f"gpuHealth/{GPU}/noThrottle", 1), ("gpuHealth/GPU-9c2b1d34/noThrottle", 1), ("GPU-9c2b1d34/noThrottle", 1),
        (f"gpu:{GPU}/noThrottle", 1), ("gpu:GPU-9c2b1d34/noThrottle", 1), ("GPU-9c2b/noThrottle", 2),
        ("vm", 0), ("swappiness", 0), ("vm.swappines.", 0), ("GPU-9c/noThrottle", 0), ("", 0), (".*", 0),
    ],
)  # fmt: skip
def test_a_word_means_what_some_command_prints_so(word: str, count: int) -> None:
    assert len(settings_named(word, NAMES)) == count


def test_only_takes_tunables_and_settings_and_refuses_the_rest() -> None:
    assert chosen((), NAMES, ()) is None
    assert chosen(("cpuGovernor", "vm.swappiness"), NAMES, ()) == set(list(NAMES)[:3])
    # A tunable of which this host has nothing is no mistake.
    assert chosen(("ksm",), NAMES, ("ksm",)) == set()
    with pytest.raises(
        UsageError, match=r"--only swappiness: no such tunable or setting; did you mean 'vm.swappiness'?"
    ):
        chosen(("swappiness",), NAMES, ("ksm",))


def test_a_uuid_cut_too_short_is_refused_where_it_chooses() -> None:
    two = {("gpu", f"gpu:GPU-9c2b{end}"): f"gpu/GPU-9c2b{end}" for end in ("1d34-1", "1d35-1")}
    assert len(chosen(("GPU-9c2b1d34",), two, ()) or ()) == 1
    with pytest.raises(UsageError, match=r"GPU-9c2b1d3 is the beginning of GPU-9c2b1d34-1, GPU-9c2b1d35-1; give more"):
        chosen(("GPU-9c2b1d3",), two, ())


def test_what_a_version_lacks_has_a_name_too() -> None:
    assert namer(registry())("sysctl", "key:vm.x") == "vm.x"
    assert namer(registry())("futureThing", "a:b") == "futureThing/a:b"


@pytest.mark.parametrize("host", ["h200x8-vm", "h100-live"])
def test_names_of_a_real_machine_are_one_word_each_and_lead_back(host: str, tmp_path: Path) -> None:
    names = tuner_of(HOSTS / host, tmp_path, "training").observe().names
    assert len(set(names.values())) == len(names)
    for key, name in names.items():
        assert " " not in name
        assert settings_named(name, names) == settings_named(short(name), names) == [key]


def test_rows_that_are_known_by_themselves_are_known_once() -> None:
    alone = [row for tunable in registry().values() if tunable.is_known_by_row for row in tunable.rows]
    assert len(set(alone)) == len(alone) and not set(alone) & set(registry())
