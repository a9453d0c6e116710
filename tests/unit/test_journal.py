"""The journal as lines and as settings: what a line says, what a shorter journal keeps, what it holds back."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.values import Disruption, Lifetime
from tuneagent.engine.applied_settings import compact, fold
from tuneagent.engine.host_assessment import _is_offline
from tuneagent.engine.host_tuner import CONFIRM, Confirm, HostTuner
from tuneagent.engine.journal import RESERVE
from tuneagent.engine.journal_lines import VERSION, NotUnderstood, decode, encode
from tuneagent.engine.plan import BASELINE, undo_change
from tuneagent.engine.undo import foreign_results
from tuneagent.errors import JournalError, ReadFailed, WriteFailed
from tuneagent.host.files import Files
from tuneagent.host.state_folder import StateFolder
from tuneagent.tunables.registry import registry


def record(step: Any, *subjects: SubjectRecord, **more: Any) -> Record:
    base: dict[str, Any] = {
        "time": 1.0, "plan": "d", "tunable": "sysctl", "lifetime": Lifetime.PERSISTENT, "boot_id": "b0", "kernel": "6.1",
        "driver": "580", "profile": "p", "revision": "r",
    }  # fmt: skip
    return Record(step=step, subjects=subjects, **{**base, **more})


def subject(name: str, **more: Any) -> SubjectRecord:
    base: dict[str, Any] = {
        "prior": 60, "wrote": 10, "live": True, "raw": "60\t\n", "drop_in_prior": {name: None}, "drop_in_wrote": {name: "10"},
    }  # fmt: skip
    return SubjectRecord(subject=f"key:{name}", **{**base, **more})


NAMED = SubjectRecord(subject="key:a")


@pytest.mark.parametrize(
    "records",
    [
        [record("intended", subject("a"))],
        [record("intended", subject("a")), record("done", NAMED), record("verified", NAMED)],
        [record("intended", subject("a"), subject("b")), record("verified", NAMED)],
        [record("intended", subject("a", live=False, raw=msgspec.UNSET)), record("done", NAMED)],
        [record("intended", subject("a")), record("left", SubjectRecord(subject="key:a", wrote=7))],
        [
            record("intended", subject("a")), record("verified", NAMED),
            record("intended", subject("a", prior=10, wrote=5, drop_in_wrote={}, drop_in_prior={}, raw=msgspec.UNSET), time=2.0),
            record("verified", NAMED, time=2.0),
        ],
        [record("intended", subject("a")), record("verified", NAMED), record("undone", NAMED)],
        [record("intended", subject("a")), record("reverted", NAMED)],
    ],
)  # fmt: skip
def test_a_shorter_journal_says_the_same(records: list[Record]) -> None:
    kept = compact(records)
    before, after = fold(records), fold(kept)
    assert list(after) == list(before)
    for key, setting in before.items():
        # The newest intention alone matters for recovery, and a journal is made shorter only after that.
        assert msgspec.structs.replace(after[key], last=setting.last) == setting
    assert fold(compact(kept)) == after


def test_a_record_about_a_setting_says_when_and_why() -> None:
    (setting,) = fold([record("intended", subject("a"))]).values()
    made = setting.record("undone", time=7.0, reason="by hand")
    assert (made.time, made.reason, made.subjects) == (7.0, "by hand", (NAMED,))
    plain = setting.record("undone")
    assert (plain.time, plain.reason) == (1.0, "")


def test_a_state_folder_of_others_is_a_journal_that_cannot_be_read(tuner: HostTuner, tmp_path: Path) -> None:
    tuner.apply()
    (tmp_path / tuner.state.folder).chmod(0o777)
    again = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    with pytest.raises(JournalError, match="has mode 0777, so others could have written the journal"):
        again.journal.applied()


def test_a_line_is_its_record(tmp_path: Path) -> None:
    written = record("intended", subject("a"), reason="why")
    line = encode(written)
    assert line.endswith(b"}\n") and line.startswith(b'{"v":%d,"crc":"' % VERSION)
    found = decode(line + line[:-5])
    assert found.records == (written,) and found.foreign == () and found.sound == len(line)


def foreign_line(body: bytes) -> bytes:
    return b'{"v":%d,"crc":"%08x","record":%s}\n' % (VERSION, zlib.crc32(body), body)


@pytest.mark.parametrize(
    ("body", "tunable", "subjects"),
    [
        (
            b'{"step":"teleported","tunable":"new","subjects":[{"subject":"x:1"},{"subject":"x:2"}]}',
            "new",
            ("x:1", "x:2"),
        ),
        (b'{"tunable":"new","subjects":[{}]}', "new", ("?",)),
        (b'{"tunable":"new"}', "new", ()),
        (b'{"subjects":7}', "?", ()),
        (b"[]", "?", ()),
    ],
)
def test_a_line_that_is_not_understood_says_what_it_is_about(
    body: bytes, tunable: str, subjects: tuple[str, ...]
) -> None:
    line = foreign_line(body)
    (found,) = decode(line).foreign
    assert (found.tunable, found.subjects, found.line) == (tunable, subjects, line[:-1])
    assert found.error.startswith("line 1: ") and len(found.error) > 10


def test_what_is_not_understood_is_told_subject_by_subject() -> None:
    class Played:
        def foreign(self) -> list[NotUnderstood]:
            return [
                NotUnderstood(tunable="new", subjects=("x:1", "x:2"), error="line 3: no", line=b""),
                NotUnderstood(tunable="?", subjects=(), error="line 4: no", line=b""),
            ]

    told = [(one.tunable, one.subject, one.result, one.reason) for one in foreign_results(Played())]  # type: ignore[arg-type]
    reason = "not understood by this version (line 3: no); kept"
    assert told == [
        ("new", "x:1", "failed", reason), ("new", "x:2", "failed", reason),
        ("?", "?", "failed", "not understood by this version (line 4: no); kept"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no line\n", "journal line 1 is damaged (not a line of a journal); nothing is written"),
        (foreign_line(b"{}").replace(b'"record":{}', b'"record":{ }'), "checksum differs"),
        (
            foreign_line(b"{}").replace(b'"v":%d' % VERSION, b'"v":9'),
            "journal line 1: version 9, this tuneagent reads 2 and 3",
        ),
        (b"\n", "journal line 1 is damaged"),
    ],
)
def test_damage_and_other_versions_stop_every_write(data: bytes, why: str) -> None:
    with pytest.raises(JournalError) as told:
        decode(data)
    assert why in str(told.value)


def test_an_undo_as_a_change() -> None:
    (setting,) = fold([record("intended", subject("a"))]).values()
    change = undo_change(setting, registry())
    assert (change.tunable, change.subject, change.desired, change.persistence) == ("sysctl", "key:a", 60, BASELINE)
    assert change.prior.live == 10 and change.disruption is Disruption.LIVE


@pytest.fixture
def tuner(tmp_path: Path) -> HostTuner:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d"])
    return session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})


def test_the_reserve_gives_whole_blocks_until_it_is_used_up(tuner: HostTuner) -> None:
    tuner.apply()
    state = tuner.state
    state.reserve(RESERVE, 40 * 1024)
    assert tuner.journal.give_room(10)
    stamp = state.stamp(RESERVE)
    assert stamp is not None and stamp[1] == 24 * 1024
    assert tuner.journal.give_room(20 * 1024)
    stamp = state.stamp(RESERVE)
    assert stamp is not None and stamp[1] == 4 * 1024
    assert tuner.journal.give_room(1) and state.stamp(RESERVE) is None
    assert not tuner.journal.give_room(1)


def test_a_reserve_that_cannot_be_made_smaller_is_no_error(tuner: HostTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner.apply()
    tuner.state.reserve(RESERVE, 40 * 1024)

    def refused(self: StateFolder, name: str, size: int) -> None:
        raise WriteFailed("EIO")

    monkeypatch.setattr(StateFolder, "reserve", refused)
    assert tuner.journal.give_room(10)


def test_another_profile_on_the_same_host_reads_the_journal_no_second_time(tuner: HostTuner) -> None:
    assert tuner.with_profile(tuner.profile).journal is tuner.journal


def test_a_conflict_ends_the_wait_for_a_confirmation_and_a_failure_does_not(
    tuner: HostTuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner.apply(confirm=Confirm(60.0, lambda _: None))
    late = msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, now=lambda: 1_800_000_061.0))
    with monkeypatch.context() as patch:
        patch.setattr(Files, "write", lambda self, path, text: None)
        assert [one.result for one in late.revert_unconfirmed() or ()] == ["failed"]
    assert late.pending() is not None
    (tmp_path / "proc/sys/vm/swappiness").write_text("33\n")
    assert [one.result for one in late.revert_unconfirmed() or ()] == ["conflict"]
    assert late.pending() is None and not tuner.state.files.exists(f"{tuner.state.folder}/{CONFIRM}")


@pytest.mark.parametrize(
    ("subject_name", "online", "offline"),
    [
        ("cpu:1", "0\n", True), ("cpu:1/max", "0\n", True), ("cpu:1", "1\n", False), ("cpu:1", None, False),
        ("cpu:x", "0\n", False), ("node:1", "0\n", False), ("1", "0\n", False), ("cpu:", "0\n", False),
    ],
)  # fmt: skip
def test_a_cpu_that_is_switched_off_is_not_gone(
    subject_name: str, online: str | None, offline: bool, tmp_path: Path
) -> None:
    files = {} if online is None else {"sys/devices/system/cpu/cpu1/online": online}
    write_tree(tmp_path, files, ["sys/devices/system/cpu/cpu1"])
    assert _is_offline(tree(Files(str(tmp_path))), subject_name) is offline


def test_a_cpu_that_cannot_be_asked_may_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Files, path: str, default: str) -> str:
        raise ReadFailed(path)

    monkeypatch.setattr(Files, "read_or", refuse)
    assert _is_offline(tree(Files(str(tmp_path))), "cpu:1")
