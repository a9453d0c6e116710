"""A process that dies at any step of a plan: each setting is all old or all new, and undo brings the baseline back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kills
import pytest
from large_tree import FILES, TUNE
from support import Dies, DyingFiles, read_tree, session_of, tree, write_tree
from tuneagent.engine.host_tuner import STATE_FOLDER
from tuneagent.engine.journal import Journal
from tuneagent.engine.recover import recover
from tuneagent.host.files import Files


def _make(root: Path) -> None:
    write_tree(root, FILES, ["etc/tmpfiles.d"])


def _count_steps(root: Path) -> int:
    _make(root)
    files = DyingFiles(str(root), 0, after=False)
    applied = session_of(tree(files), TUNE).apply()
    assert len(applied.outcomes) == 30
    assert {outcome.result for outcome in applied.outcomes} == {"verified"}
    return files.steps


def _settings(session: Any) -> dict[str, Any]:
    """Running value and own entries of every subject, as the tunables read them."""
    judged = session.observe().assessments
    return {item.finding.subject: (item.finding.observed, item.finding.next_boot) for item in judged}


def test_death_at_every_step(tmp_path: Path) -> None:
    steps = _count_steps(tmp_path / "count")
    new = _settings(session_of(tree(Files(str(tmp_path / "count"))), TUNE))
    _make(tmp_path / "old")
    old = _settings(session_of(tree(Files(str(tmp_path / "old"))), TUNE))
    assert steps > 40
    for last in range(1, steps + 1):
        for after in (False, True):
            root = tmp_path / f"{last}-{after}"
            _make(root)
            before = read_tree(root)
            with pytest.raises(Dies):
                session_of(tree(DyingFiles(str(root), last, after=after)), TUNE).apply()
            session = session_of(tree(Files(str(root))), TUNE)
            with session.locked() as journal:
                recover(session.host, journal, session.registry)
                held = journal.applied()
            assert all(item.step != "intended" for item in held.values())
            for subject, state in _settings(session).items():
                assert state in (old[subject], new[subject]), (last, after, subject, state)
                explained = any(key[1] == subject for key in held)
                assert explained or state == old[subject], (last, after, subject)
            results = session.undo()
            assert all(result.is_settled for result in results), results
            assert read_tree(root) == before, (last, after)


def test_death_in_the_second_plan_keeps_the_first_baseline(tmp_path: Path) -> None:
    _make(tmp_path)
    before = read_tree(tmp_path)
    session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 5}}).apply()
    for last in range(1, 5):
        with pytest.raises(Dies):
            session_of(
                tree(DyingFiles(str(tmp_path), last, after=True)), {"sysctl": {"vm.swappiness": 7 + last}}
            ).apply()
    session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 5}}).undo()
    assert read_tree(tmp_path) == before


def test_torn_last_line_is_dropped_and_damage_elsewhere_stops_writing(tmp_path: Path) -> None:
    _make(tmp_path)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 5}})
    session.apply()
    path = tmp_path / STATE_FOLDER / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with session.locked() as journal:
        assert [record.step for record in journal.records()] == ["intended", "done"]
    path.write_bytes(whole.replace(b'"intended"', b'"intenbed"', 1))
    from tuneagent.errors import JournalError

    with pytest.raises(JournalError, match="line 1 is damaged"):
        session.apply()


def test_every_cut_of_a_journal_is_read(tmp_path: Path) -> None:
    _make(tmp_path)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 5, "vm.stat_interval": 9}})
    session.apply()
    path = tmp_path / STATE_FOLDER / "journal.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        Journal(session.state).applied()


def test_no_space_means_no_write(tmp_path: Path) -> None:
    from tuneagent.errors import WriteFailed

    class Full(Files):
        def append(self, path: str, data: bytes, *, sync: bool) -> None:
            raise WriteFailed(f"{path}: ENOSPC No space left on device")

    _make(tmp_path)
    before = read_tree(tmp_path)
    applied = session_of(tree(Full(str(tmp_path))), TUNE).apply()
    assert {outcome.result for outcome in applied.outcomes} == {"skipped"}
    assert all("ENOSPC" in outcome.reason for outcome in applied.outcomes)
    assert read_tree(tmp_path) == before


class Filling(Files):
    """A state folder that has room for so many appends and then no more."""

    def __init__(self, root: str, room: int) -> None:
        super().__init__(root)
        self.room = room

    def _take(self, path: str) -> None:
        from tuneagent.errors import WriteFailed

        self.room -= 1
        if self.room < 0:
            raise WriteFailed(f"{path}: ENOSPC No space left on device")

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        self._take(path)
        super().append(path, data, sync=sync)


@pytest.mark.parametrize("room", range(12))
def test_a_state_folder_that_fills_up_says_what_was_changed_and_what_was_not(room: int, tmp_path: Path) -> None:
    _make(tmp_path)
    before = read_tree(tmp_path)
    files = Filling(str(tmp_path), room)
    session = session_of(tree(files), TUNE)
    planned = {change.subject: change for change in session.observe().plan.changes}
    outcomes = {outcome.subject: outcome for outcome in session.apply().outcomes}
    after = {item.finding.subject: item.finding for item in session.observe().assessments}
    for subject, outcome in outcomes.items():
        made = after[subject].observed == planned[subject].desired
        assert (outcome.result == "verified") == made, (subject, outcome)
    # Undo while it is full: what went back is said to have gone back, the rest is said to stay, and nothing is lost.
    held = session.journal.applied()
    results = {(one.tunable, one.subject): one for one in session.undo()}
    assert set(results) >= set(held)
    for result in results.values():
        assert result.is_settled or ("ENOSPC" in result.reason and "run undo again" in result.reason), result
    files.room = 1000
    assert all(result.is_settled for result in session.undo())
    assert read_tree(tmp_path) == before
    assert not session.journal.applied()


def test_what_a_death_between_write_and_rename_leaves_is_swept(tmp_path: Path) -> None:
    _make(tmp_path)
    before = read_tree(tmp_path)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 5}})
    session.apply()
    # Whatever writes our file notes first in the journal whose it is.
    write_tree(tmp_path, {"etc/sysctl.d/.99-zz-tuneagent.conf.tuneagent": "vm.swappiness = 5\n"})
    session.undo()
    assert read_tree(tmp_path) == before


def test_the_tree_of_make_faults_is_applied_whole_and_undone(tmp_path: Path) -> None:
    """`make faults` kills every call of this; here it runs once, so that a change of what it applies is seen."""
    root = tmp_path / "tree"
    kills.make(root)
    before = kills.picture(root)
    kills.apply(root)
    kills.undo(root)
    assert kills.picture(root) == before
