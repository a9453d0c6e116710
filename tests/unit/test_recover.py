"""What a crash left between intention and end, settled from what is there: a table of states."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Lifetime
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.recover import recover
from tuneagent.host.files import Files

SWAPPINESS, OWN = "proc/sys/vm/swappiness", "etc/sysctl.d/99-zz-tuneagent.conf"
SUBJECT = SubjectRecord(
    subject="key:vm.swappiness", prior=60, wrote=10, live=True, drop_in_prior={"vm.swappiness": None},
    drop_in_wrote={"vm.swappiness": "10"},
)  # fmt: skip


def crashed(root: Path, running: str | None, own: str | None, boot_id: str = "b0") -> HostTuner:
    """A host whose journal holds one intention, and nothing that says how it ended."""
    files = {"proc/sys/kernel/random/boot_id": f"{boot_id}\n"}
    files |= {SWAPPINESS: running} if running is not None else {}
    write_tree(root, files, ["etc/sysctl.d", "proc/sys/vm"])
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    session.state.make()
    if own is not None:
        drop_in = session.registry["sysctl"].drop_in
        assert drop_in is not None
        from tuneagent.facts.one_pass import Facts

        drop_in.replace(Facts(session.host), {"vm.swappiness": own})
    session.journal.append(
        Record(
            step="intended", time=1.0, plan="d", tunable="sysctl", lifetime=Lifetime.PERSISTENT, boot_id="b0", profile="case",
            subjects=(SUBJECT,),
        )
    )  # fmt: skip
    return session


def settled(session: HostTuner) -> Undone:
    with session.locked() as journal:
        (result,) = recover(session.host, journal, session.registry)
    assert (result.tunable, result.subject) == ("sysctl", "key:vm.swappiness")
    return result


@pytest.mark.parametrize(
    ("running", "own", "boot_id", "result", "value", "reason", "left", "file"),
    [
        ("10\n", "10", "b0", "kept", 10, "found written after a crash", "10\n", True),
        ("60\n", None, "b0", "undone", 60, "taken back after a crash", "60\n", False),
        ("10\n", None, "b0", "undone", 60, "taken back after a crash", "60\n", False),
        ("60\n", "10", "b0", "undone", 60, "taken back after a crash", "60\n", False),
        ("10\n", "11", "b0", "undone", 60, "taken back after a crash", "60\n", False),
        ("33\n", None, "b0", "conflict", None, "after a crash its value is foreign; left alone", "33\n", False),
        ("33\n", "10", "b0", "conflict", None, "after a crash its value is foreign; left alone", "33\n", True),
        (None, "10", "b0", "conflict", None, "after a crash its value is unknown; left alone", None, True),
        # After a boot the running value is not ours to judge: the file alone says how far it came.
        ("77\n", "10", "b1", "kept", 10, "found written after a crash", "77\n", True),
        ("77\n", None, "b1", "undone", 60, "taken back after a crash", "77\n", False),
    ],
)
def test_states(
    running: str | None, own: str | None, boot_id: str, result: str, value: int | None, reason: str, left: str | None,
    file: bool, tmp_path: Path,
) -> None:  # fmt: skip
    session = crashed(tmp_path, running, own, boot_id)
    found = settled(session)
    assert (found.result, found.value, found.reason) == (result, value, reason)
    assert ((tmp_path / SWAPPINESS).read_text() if left is not None else None) == left
    assert (tmp_path / OWN).exists() is file
    # Settled once, it is settled: nothing is open any more, and only what was kept is still ours.
    with session.locked() as journal:
        again = recover(session.host, journal, session.registry)
        steps = [setting.step for setting in journal.applied().values()]
    assert [one.result for one in again] == (["conflict"] if result == "conflict" else [])
    assert steps == {"kept": ["done"], "undone": [], "conflict": ["intended"]}[result]


def crashed_over_two(root: Path, first: str, second: str) -> HostTuner:
    """A host whose journal holds two intentions of values with tabs, written in this order, and no end of either."""
    write_tree(root, {FIRST: first, SECOND: second, "proc/sys/kernel/random/boot_id": "b0\n"}, ["etc/sysctl.d"])
    session = session_of(
        tree(Files(str(root))), {"sysctl": {"net.ipv4.tcp_rmem": "1 2 3", "net.ipv4.tcp_wmem": "1 2 3"}}
    )
    session.state.make()
    for name in ("tcp_rmem", "tcp_wmem"):
        subject = SubjectRecord(
            subject=f"key:net.ipv4.{name}",
            prior="4096 131072 6291456",
            raw="4096\t131072\t6291456\n",
            wrote="1 2 3",
            live=True,
        )
        session.journal.append(
            Record(
                step="intended", time=1.0, plan="d", tunable="sysctl", lifetime=Lifetime.BOOT, boot_id="b0",
                profile="case", subjects=(subject,),
            )
        )  # fmt: skip
    return session


FIRST, SECOND = "proc/sys/net/ipv4/tcp_rmem", "proc/sys/net/ipv4/tcp_wmem"


@pytest.mark.parametrize(
    ("first", "second", "results"),
    [
        ("1\t2\t3\n", "1\t2\t3\n", ["kept", "kept"]),
        ("9\t9\t9\n", "9\t9\t9\n", ["conflict", "conflict"]),
        ("1\t2\t3\n", "9\t9\t9\n", ["conflict", "kept"]),
    ],
)
def test_one_that_is_settled_leaves_the_next_to_be_settled(
    tmp_path: Path, first: str, second: str, results: list[str]
) -> None:
    session = crashed_over_two(tmp_path, first, second)
    with session.locked() as journal:
        found = recover(session.host, journal, session.registry)
    assert [one.result for one in found] == results
    reasons = [one.reason for one in session.journal.records() if one.step == "done"]
    assert reasons == ["found written after a crash"] * results.count("kept")


def test_what_is_taken_back_is_written_byte_for_byte_and_the_journal_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = crashed_over_two(tmp_path, "1\t2\t3\n", "1\t2\t3\n")
    monkeypatch.setattr("tuneagent.engine.recover._state", lambda *_: "mixed")
    with session.locked() as journal:
        found = recover(session.host, journal, session.registry)
    assert [one.result for one in found] == ["undone", "undone"]
    assert [(tmp_path / name).read_text() for name in (FIRST, SECOND)] == ["4096\t131072\t6291456\n"] * 2
    reasons = [one.reason for one in session.journal.records() if one.step == "reverted"]
    assert reasons == ["taken back after a crash"] * 2


def test_a_file_of_ours_that_cannot_be_read_leaves_it_unknown(tmp_path: Path) -> None:
    session = crashed(tmp_path, "10\n", None)
    (tmp_path / OWN).mkdir()
    assert settled(session).reason == "after a crash its value is unknown; left alone"
    assert (tmp_path / SWAPPINESS).read_text() == "10\n"


def test_what_cannot_be_taken_back_says_why_and_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = crashed(tmp_path, "10\n", None)
    monkeypatch.setattr(Files, "write", lambda self, path, text: None)
    found = settled(session)
    assert found.result == "failed" and found.reason == "wrote 60, reads back 10"
    assert [one.step for one in session.journal.applied().values()] == ["intended"]
