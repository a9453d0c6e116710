"""gpuProcesses on a made-up machine of two nodes: what is moved once, and never taken for undone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machines
import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.errors import ProfileInvalid, ReadFailed, WriteFailed
from tuneagent.host.files import Files
from tuneagent.host.processes import NoProcesses

BOOT = "3c8e6f0a-0000-4000-8000-000000000001"
MEMORY = f"pid:42@1000@{BOOT}/memory"
SHAPE = {"nodes": 2, "cores": 4, "gpus": [1], "gpu_nodes": [2]}


class Job(NoProcesses):
    """One process near GPU 0 on node 1, with pages on node 0. `pinned_kib` of them cannot be moved."""

    def __init__(self, pinned_kib: int = 0) -> None:
        self.cpus = frozenset({4, 5})
        # Node 2 is memory of the GPU itself: pages there are neither near nor far.
        self.pages = {0: 6000, 1: 2000, 2: 50000}
        self.pinned_kib = pinned_kib
        self.moves: list[tuple[list[int], list[int]]] = []
        self.since = 1000
        self.gone = False
        # Whether we die in the middle of the move.
        self.dies = False
        self.cannot_be_pinned = False

    def started(self, pid: int) -> int:
        if self.gone:
            raise ReadFailed(f"pid {pid}: no such process")
        return self.since

    def affinity(self, pid: int) -> tuple[frozenset[int], ...]:
        return (self.cpus,)

    def pin(self, pid: int, cpus: Sequence[int]) -> None:
        if self.cannot_be_pinned:
            raise WriteFailed(f"pid {pid}: sched_setaffinity: Operation not permitted")
        self.cpus = frozenset(cpus)

    def pages_by_node(self, pid: int) -> dict[int, int]:
        return dict(self.pages)

    def migrate(self, pid: int, source: Sequence[int], target: Sequence[int]) -> None:
        self.moves.append((list(source), list(target)))
        moved = self.pages[0] - self.pinned_kib
        self.pages = {**self.pages, 0: self.pinned_kib, 1: self.pages[1] + moved}
        if self.dies:
            raise KeyboardInterrupt


def job_session(root: Path, job: Job, spec: dict[str, Any]) -> HostTuner:
    files = machines.build(SHAPE)
    device = {"uuid": "GPU-0", "index": 0, "pci": machines.address("gpu"), "pids": [42]}
    snapshot = {"snapshot": {"driver_version": "580.1", "devices": [device]}}
    files["tuneagent/gpus.json"] = msgspec.json.encode(snapshot).decode()
    files["proc/sys/kernel/random/boot_id"] = BOOT + "\n"
    write_tree(root, files)
    session = session_of(tree(Files(str(root))), {"gpuProcesses": spec})
    return msgspec.structs.replace(session, host=msgspec.structs.replace(session.host, processes=job))


MIGRATE = {"cpus": "local", "memory": "prefer-local", "action": "migrate"}


def test_pages_of_a_process_that_is_pinned_right_are_moved_and_stay(tmp_path: Path) -> None:
    job = Job()
    session = job_session(tmp_path, job, MIGRATE)
    plan = session.observe().plan
    assert [change.subject for change in plan.changes] == [MEMORY]
    applied = session.apply()
    assert [outcome.result for outcome in applied.outcomes] == ["verified"]
    assert job.moves == [([0], [1])]
    assert {finding.subject: finding.verdict.value for finding in applied.after.report.findings}[MEMORY] == "converged"
    assert not session.observe().plan.changes
    undone = session.undo()
    assert [(one.result, one.reason) for one in undone] == [
        ("ended", "pages stay where they are until the process ends")
    ]
    assert job.pages == {0: 0, 1: 8000, 2: 50000}


def test_what_cannot_be_moved_is_reported_and_not_tried_again(tmp_path: Path) -> None:
    job = Job(pinned_kib=3000)
    session = job_session(tmp_path, job, MIGRATE)
    applied = session.apply()
    assert {finding.subject: finding.verdict.value for finding in applied.after.report.findings}[MEMORY] == "drifted"
    plan = session.observe().plan
    assert not plan.changes
    assert [refused.reason for refused in plan.refused] == ["done once already; what is left cannot be changed"]
    assert not session.apply().outcomes and len(job.moves) == 1
    # Another process under the same number is another process.
    job.since, job.pages = 2000, {0: 6000, 1: 2000, 2: 50000}
    assert [outcome.result for outcome in session.apply().outcomes if outcome.subject != MEMORY] == ["verified"]
    assert len(job.moves) == 2


def test_a_process_that_has_ended_is_gone(tmp_path: Path) -> None:
    job = Job()
    session = job_session(tmp_path, job, MIGRATE)
    session.apply()
    job.gone = True
    (tmp_path / "tuneagent/gpus.json").write_text('{"snapshot": {"driver_version": "580.1", "devices": []}}')
    assert all(one.is_settled for one in session.undo())
    assert not session.journal.applied()


def test_a_move_that_a_crash_cut_off_is_made_again(tmp_path: Path) -> None:
    job = Job()
    session = job_session(tmp_path, job, MIGRATE)
    job.dies = True
    with pytest.raises(KeyboardInterrupt):
        session.apply()
    job.dies, job.pages = False, {0: 6000, 1: 2000, 2: 50000}
    assert [change.subject for change in session.observe().plan.changes] == [MEMORY]
    assert [outcome.result for outcome in session.apply().outcomes] == ["verified"]
    assert len(job.moves) == 2


def test_pages_stay_with_cpus_that_could_not_be_moved(tmp_path: Path) -> None:
    job = Job()
    job.cpus, job.cannot_be_pinned = frozenset({0, 1}), True
    applied = job_session(tmp_path, job, MIGRATE).apply()
    assert {outcome.result for outcome in applied.outcomes} == {"failed"} and not job.moves
    job.cannot_be_pinned = False
    applied = job_session(tmp_path, job, MIGRATE).apply()
    assert {outcome.result for outcome in applied.outcomes} == {"verified"} and job.moves == [([0], [1])]


def test_a_profile_that_no_longer_asks_does_not_claim_to_move_back(tmp_path: Path) -> None:
    job = Job()
    job_session(tmp_path, job, MIGRATE).apply()
    without = job_session(tmp_path, job, {"cpus": "local"})
    assert not without.observe().plan.changes
    assert [change.tunable for change in job_session(tmp_path, job, {}).observe().plan.changes] == []
    job.since = 2000
    outcomes = without.apply().outcomes
    assert [(one.subject, one.result, one.reason) for one in outcomes] == [(MEMORY, "ended", "no longer there")]
    assert not without.journal.applied()
    assert len(job.moves) == 1


@pytest.mark.parametrize("action", ["report", "pin"])
def test_pages_are_moved_only_where_the_profile_says_so(tmp_path: Path, action: str) -> None:
    job = Job()
    session = job_session(tmp_path, job, {**MIGRATE, "action": action})
    plan = session.observe().plan
    assert not plan.changes and [refused.reason for refused in plan.refused] == [f"action is {action}"]
    session.apply()
    assert not job.moves


@pytest.mark.parametrize("spec", [{"memory": "prefer-local", "action": "pin"}, {"cpus": "local", "action": "migrate"}])
def test_an_action_needs_the_setting_that_it_acts_on(tmp_path: Path, spec: dict[str, str]) -> None:
    with pytest.raises(ProfileInvalid, match="needs"):
        job_session(tmp_path, Job(), spec).observe()
