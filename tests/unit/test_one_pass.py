"""A pass reads each file once and parses the journal once; only what was written is read again."""

from __future__ import annotations

import collections
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from large_tree import FILES, THP, TUNE
from memory_node import Node, Server
from support import session_of, tree, write_tree
from tuneagent.commands.settings import load_profile
from tuneagent.engine import host_assessment
from tuneagent.engine import journal as journal_module
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.files_once import FilesOnce
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.host.rooted import OPEN_LIMIT

LIVE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}}
# Changes that need a grant, so that a proposal waits after the pass.
WAITING = {**LIVE, "smt": {"enabled": False}}


class CountingFiles(Files):
    """Files that count how often each is opened."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.opened: collections.Counter[str] = collections.Counter()

    def read_bytes(self, path: str) -> bytes:
        self.opened[path.strip("/")] += 1
        return super().read_bytes(path)

    def names(self, path: str) -> list[str]:
        self.opened[f"{path.strip('/')}/"] += 1
        return super().names(path)

    @property
    def twice(self) -> dict[str, int]:
        return {path: count for path, count in self.opened.items() if count > 1}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the journals that were parsed."""
    found: list[int] = []
    real = journal_module.decode

    def counted(data: bytes) -> Any:
        found.append(len(data))
        return real(data)

    monkeypatch.setattr(journal_module, "decode", counted)
    return found


@pytest.fixture
def not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading back is not counted: it goes past the counting files."""

    def again(facts: Facts) -> Facts:
        given = facts._given
        return Facts(msgspec.structs.replace(given, files=Files(given.files.root)), facts.specs)

    monkeypatch.setattr(Facts, "again", again)


@pytest.mark.parametrize("name", ["generic", "training", "inference"])
def test_an_audit_opens_no_file_twice(name: str, tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    files = CountingFiles(str(tmp_path))
    session = session_of(tree(files), {**load_profile(None, name).spec.tune, **TUNE})
    assert session.observe().report.findings
    assert files.opened and files.twice == {}


def test_a_plan_opens_no_file_twice_and_parses_the_journal_once(tmp_path: Path, parsed: list[int]) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    session_of(tree(Files(str(tmp_path))), TUNE).apply()
    (tmp_path / "proc/sys/vm/swappiness").write_text("77\n")
    parsed.clear()
    files = CountingFiles(str(tmp_path))
    found = session_of(tree(files), TUNE).observe()
    assert len(found.plan.changes) == 1 and found.plan_when_idle == found.plan
    assert files.twice == {} and len(parsed) == 1


def test_an_apply_observes_once_and_parses_the_journal_once(
    tmp_path: Path, parsed: list[int], not_verify: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    seen: list[int] = []
    real = host_assessment.observe
    monkeypatch.setattr(host_assessment, "observe", lambda *given: seen.append(1) or real(*given))
    files = CountingFiles(str(tmp_path))
    result = session_of(tree(files), TUNE).apply()
    assert {outcome.result for outcome in result.outcomes} == {"verified"}
    # One look, and what it found after the writes is what is there.
    assert seen == [1] and len(parsed) == 1
    again = session_of(tree(Files(str(tmp_path))), TUNE).observe()
    assert result.after.report == again.report and not result.after.plan.changes
    # Tunables share our files: what one wrote is read by the next. A pool says how many pages it gave; and in a tree,
    # where no kernel does it, a choice is written among its words.
    ours = {"etc/sysctl.d/99-zz-tuneagent.conf", "etc/tmpfiles.d/00-00-tuneagent.conf"}
    assert {path for path in files.twice if not path.startswith(("sys/devices/system/node", THP))} <= ours


def test_a_repairing_pass_of_a_cluster_node_with_a_proposal_observes_once(
    tmp_path: Path, parsed: list[int], not_verify: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path, Server(), monkeypatch)
    node.server.name(WAITING)
    node.agent.once()
    assert node.server.node["proposal"]
    (tmp_path / "proc/sys/vm/swappiness").write_text("77\n")
    seen: list[int] = []
    real = host_assessment.observe
    monkeypatch.setattr(host_assessment, "observe", lambda *given: seen.append(1) or real(*given))
    files = CountingFiles(str(tmp_path))
    node.files = files
    node.again()
    parsed.clear()
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10" and node.server.node["proposal"]
    assert seen == [1] and len(parsed) == 1
    state = {path for path in files.twice if path.startswith("var/lib/tuneagent/")}
    assert set(files.twice) - state == set(), files.twice


def test_what_waits_for_a_change_is_read_again_after_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "sys/devices/system/cpu/online": "0-3\n", "sys/devices/system/cpu/possible": "0-3\n",
        **{f"sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list": f"{cpu % 2},{cpu % 2 + 2}\n" for cpu in range(4)},
        **{f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id": "0\n" for cpu in range(4)},
        "sys/devices/system/node/online": "0\n", "sys/devices/system/node/node0/cpulist": "0-3\n",
        "sys/devices/system/cpu/smt/control": "on\n",
        "proc/irq/default_smp_affinity": "f\n",
    }, ["etc/tmpfiles.d"])  # fmt: skip
    tune = {
        "smt": {"enabled": False},
        "reservedCpus": {"perNumaNode": 1},
        "kernelFiles": {"defaultIrqCpus": "{reserved}"},
    }
    session = session_of(tree(Files(str(tmp_path))), tune)
    result = session.apply(limit=list(type(session.observe().plan.changes[0].disruption))[2])
    assert result.after.report == session.observe().report


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collector of cycles, as in a command: what is dropped must be gone at once."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_passes_keep_no_descriptor(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {**load_profile(None, "training").spec.tune, **TUNE})
    session.observe()
    before = descriptors()
    for _ in range(5):
        assert session.observe().report.findings
    assert descriptors() == before


@pytest.mark.usefixtures("uncollected")
def test_a_failed_read_keeps_no_folder_open(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a/b/c": "1\n"})
    files = Files(str(tmp_path))
    before = descriptors()
    for _ in range(5):
        once = FilesOnce(files)
        assert once.read("a/b/c") == "1"
        for path in ("a/b/missing", "a/b/c/under", "a/b"):
            with pytest.raises((PathMissing, ReadFailed)):
                once.read(path)
        del once
    assert descriptors() == before


@pytest.mark.usefixtures("uncollected")
def test_an_undo_of_many_settings_keeps_few_descriptors(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor": "powersave\n" for number in range(40)}
    write_tree(tmp_path, {**files, "sys/devices/system/cpu/online": "0-39\n"}, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"cpuGovernor": {"governor": "performance"}})
    session.apply()
    before = descriptors()
    most = [before]
    real = Files.read_bytes

    def counted(self: Files, path: str) -> bytes:
        most.append(descriptors())
        return real(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "read_bytes", counted)
        assert {one.result for one in session.undo()} == {"undone"}
    assert max(most) - before <= OPEN_LIMIT and descriptors() == before


@given(
    st.permutations(
        ["a/b/f", "a/b/to_f", "a/to_b/f", "a/b/out", "a/b/loop", "a/b/none", "a/b", "a/b/f/g", "a/b/up", "to_a/b/to_f"]
    )
)
@settings(max_examples=200, deadline=None)
def test_open_folders_change_no_answer(order: list[str]) -> None:
    """Whatever was asked before and so is open: the same content, names, status and errors as a walk from the root."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/f").write_text("x")
        links = {
            "a/b/to_f": "f",
            "a/to_b": "b",
            "a/b/out": "/a/b/f",
            "a/b/loop": "loop",
            "a/b/up": "../b/f",
            "to_a": "a",
        }
        for name, target in links.items():
            (root / name).symlink_to(target)
        plain = Files(folder)
        once = plain.for_a_pass()
        for path in order * 2:
            for ask in ("read_bytes", "names", "exists", "is_dir", "is_link", "is_mask"):
                assert told(getattr(once, ask), path) == told(getattr(plain, ask), path), (ask, path)


def told(ask: Callable[[str], object], path: str) -> object:
    try:
        return ask(path)
    except (PathMissing, ReadFailed) as error:
        return f"{type(error).__name__} {error}"
