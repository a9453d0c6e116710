"""An Arm machine with 64 KiB pages: audit, apply, undo, and what the kernel says of it. Part of `make soak`."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from arm64_machine import PROJECT, boot, initramfs, machine
from tuneagent.commands.settings import load_profile
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.host.state_folder import StateFolder
from tuneagent.share.capture import unpack

THP = "/sys/kernel/mm/transparent_hugepage"
PAGES = "/sys/devices/system/node/node{}/hugepages/hugepages-{}kB/nr_hugepages"
PROFILE = """apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {name: arm}
spec:
  tune:
    sysctl: {vm.swappiness: 10, kernel.numa_balancing: 0}
    transparentHugepages: {enabled: always, defrag: defer+madvise, khugepaged: {maxPtesNone: 8000}}
    hugepages: {pages: [{size: 512Mi, node: 1, count: 1}, {size: 2Mi, perNumaNode: 4}]}
    checks: {pageSize: 65536, hugePagesIdleMax: 90}
"""
SHOWN = {
    "swappiness": "/proc/sys/vm/swappiness",
    "enabled": f"{THP}/enabled",
    "none": f"{THP}/khugepaged/max_ptes_none",
    "512Mi": PAGES.format(1, 524288),
    "2Mi": PAGES.format(0, 2048),
}
SCRIPT = "\n".join([
    "cat > /profile.yaml <<'X'", PROFILE + "X",
    "say pagesize python3.11 -c 'import os; print(os.sysconf(\"SC_PAGESIZE\"))'",
    "say topology tuneagent topology -o json",
    "say before tuneagent audit -f /profile.yaml -o json",
    "say apply tuneagent apply -f /profile.yaml --yes",
    "say after tuneagent audit -f /profile.yaml -o json",
    *(f"say {name} cat {path}" for name, path in SHOWN.items()),
    "say captured tuneagent capture -f /profile.yaml /tmp/capture.tar.gz", "say capture base64 /tmp/capture.tar.gz",
    "say undo tuneagent undo",
    *(f"say {name}-again cat {path}" for name, path in SHOWN.items()),
])  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and output of each command."""
    made = machine()
    console = boot(made, initramfs(made, tmp_path_factory.mktemp("arm64"), SCRIPT))
    found = re.findall(r"^<<<(\S+) (\d+)\n(.*?)^>>>$", console, re.DOTALL | re.MULTILINE)
    assert found, console[-3000:]
    return {name: (int(code), text.strip()) for name, code, text in found}


def findings(said: dict[str, tuple[int, str]], when: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(said[when][1])["findings"]}


def test_the_machine_has_pages_of_64_kib_and_two_nodes(said: dict[str, tuple[int, str]]) -> None:
    assert said["pagesize"] == (0, "65536")
    topology = json.loads(said["topology"][1])
    assert [node["id"] for node in topology["numa_nodes"]] == [0, 1]
    assert all(node["memory_kib"] > 1_000_000 for node in topology["numa_nodes"])


def test_it_is_audited_changed_and_changed_back(said: dict[str, tuple[int, str]]) -> None:
    before, after = findings(said, "before"), findings(said, "after")
    assert before["pageSize"]["verdict"] == "converged" and before["pageSize"]["observed"] == 65536
    wanted = [name for name, one in before.items() if one["verdict"] == "drifted"]
    assert len(wanted) >= 6, before
    assert (
        said["apply"][0] == 3
        and "8 settings written and verified; 8 of them are lost at the next boot" in said["apply"][1]
    )
    assert {after[name]["verdict"] for name in wanted} == {"not-persisted"}, after
    assert [said[name][1] for name in ("swappiness", "none", "512Mi", "2Mi")] == ["10", "8000", "1", "4"]
    assert "[always]" in said["enabled"][1]
    assert said["undo"][0] == 0, said["undo"]
    assert [said[f"{name}-again"][1] for name in ("swappiness", "none", "512Mi", "2Mi")] == ["60", "8191", "0", "0"]
    assert "[madvise]" in said["enabled-again"][1]


def test_its_capture_is_audited_like_itself(said: dict[str, tuple[int, str]], tmp_path: Path) -> None:
    """The capture stays in build-out, from where a person takes it to the fixtures of the unit tier."""
    out = PROJECT / "build-out/arm64"
    out.mkdir(parents=True, exist_ok=True)
    (out / "capture.tar.gz").write_bytes(base64.b64decode(said["capture"][1]))
    (tmp_path / "profile.yaml").write_text(PROFILE)
    host = unpack(str(out / "capture.tar.gz"), str(tmp_path / "host"))
    tuner = HostTuner(host, StateFolder(host.files, STATE_FOLDER), load_profile(str(tmp_path / "profile.yaml"), None))
    found = {one.name: one.verdict.value for one in tuner.observe().report.findings}
    assert found == {name: one["verdict"] for name, one in findings(said, "after").items()}
