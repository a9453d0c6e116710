"""`status`: what is held, what waits, who else is at work; from a host's journal and notes."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.confirmation import Pending, Reverted
from tuneagent.contracts.host_status import HostStatus, ProfileInForce
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_status import status_of
from tuneagent.engine.host_tuner import CONFIRM, DAEMON_LOCK, GOVERNED, REVERTED, Confirm, HostTuner
from tuneagent.engine.journal_lines import VERSION
from tuneagent.engine.names import namer
from tuneagent.errors import UsageError
from tuneagent.host.files import Files
from tuneagent.report.journal import journal_text
from tuneagent.report.status import confirmation_text, reverted_text, status_text

NOW = 1_800_000_000.0


@pytest.fixture
def tuner(tmp_path: Path) -> HostTuner:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/kernel/random/boot_id": "b0\n"}, ["etc/sysctl.d"])
    return session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})


def test_a_host_that_was_never_touched(tuner: HostTuner, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert status_of(tuner) == HostStatus()
    assert status_text(HostStatus(), NOW, 80).splitlines() == [
        "profile       none: tuneagent has changed nothing on this host",
        "reboot        not needed",
        "daemon        not running",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_held_and_by_whom(tuner: HostTuner, tmp_path: Path) -> None:
    tuner.apply(confirm=Confirm(300.0, lambda _: None))
    write_tree(tmp_path, {"etc/tuneagent/hold": "ticket\n"})
    tuner.state.replace(GOVERNED, b"node7\n")
    with tuner.state.locked(DAEMON_LOCK):
        found = status_of(tuner)
    assert found == HostStatus(
        profiles=(ProfileInForce(name="case", revision=tuner.profile.revision, settings=1, since=NOW, last=NOW),),
        confirm_by=NOW + 300,
        awaits_confirmation=("vm.swappiness",),
        daemon=True,
        governed_by="node7",
        held=True,
    )
    text = status_text(found, NOW, 200)
    assert f"profile       case {tuner.profile.revision}: 1 setting since 2027-01-15 08:00:00Z\n" in text
    assert "1 setting is undone in 5 min, at 2027-01-15 08:05:00Z, unless you run `tuneagent confirm`" in text
    assert (
        "daemon        running\n" in text and "this host is node node7" in text and "nothing but an undo writes" in text
    )


def test_what_a_crash_left_open_and_what_is_not_understood(tuner: HostTuner, tmp_path: Path) -> None:
    tuner.apply()
    path = tmp_path / tuner.state.folder / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    body = b'{"step":"from the future"}'
    strange = b'{"v":%d,"crc":"%08x","record":%s}' % (VERSION, zlib.crc32(body), body)
    # The intention alone, as a death right after it leaves it, and a line of another version.
    path.write_bytes(lines[0] + b"\n" + strange + b"\n")
    found = status_of(tuner)
    assert (found.unsettled, found.not_understood) == (("vm.swappiness",), 1)


def test_what_only_a_boot_changes_waits_for_it(tmp_path: Path) -> None:
    files = {
        "proc/cmdline": "root=/dev/sda1\n",
        "etc/default/grub": "",
        "boot/grub/grub.cfg": "menuentry x {\n linux /v root=/dev/sda1 iommu=pt\n}\n",
    }
    write_tree(tmp_path, files, ["etc/default/grub.d"])
    from support import PlayedPrograms

    tuner = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), {"kernelArguments": {"iommu": "pt"}})
    (tmp_path / "boot/grub/grub.cfg").write_text("menuentry x {\n linux /v root=/dev/sda1\n}\n")
    outcomes = tuner.apply(limit=Disruption.REBOOT).outcomes
    assert [one.result for one in outcomes] == ["verified"], outcomes
    assert status_of(tuner).waits_for_reboot == ("kernelArguments/iommu",)
    assert "reboot        needed for kernelArguments/iommu" in status_text(status_of(tuner), NOW, 80)
    (tmp_path / "proc/cmdline").write_text("root=/dev/sda1 iommu=pt\n")
    assert status_of(tuner).waits_for_reboot == ()


def test_an_apply_that_nobody_confirmed_is_told_until_the_next(tuner: HostTuner) -> None:
    applied = tuner.apply(confirm=Confirm(60.0, lambda _: None))
    late = msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, now=lambda: NOW + 61))
    assert late.revert_unconfirmed()
    reverted = late.reverted()
    assert reverted is not None and (reverted.plan, reverted.settings) == (applied.plan.digest, 1)
    assert reverted_text(reverted) == (
        f"plan {applied.plan.digest} was not confirmed in time: 1 setting undone at 2027-01-15 08:01:01Z; "
        "`tuneagent journal` lists them"
    )
    late.forget_reverted()
    assert late.reverted() is None
    # Another apply that awaits its confirmation drops the note as well.
    late.apply(confirm=Confirm(60.0, lambda _: None))
    later = msgspec.structs.replace(late, host=msgspec.structs.replace(late.host, now=lambda: NOW + 200))
    assert later.revert_unconfirmed() and later.reverted() is not None
    later.apply(confirm=Confirm(60.0, lambda _: None))
    assert later.reverted() is None


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (59, "in 59 s,"),
        (60, "in 1 min,"),
        (61, "in 1 min 1 s,"),
        (3600, "in 1 h,"),
        (7265, "in 2 h 1 min,"),
        (0, "undone"),
        (-5, "undone"),
    ],
)
def test_how_long_is_left(left: int, told: str) -> None:
    assert told in confirmation_text(NOW + left, NOW, 2)


def test_an_expired_wait_is_settled_before_another_begins(tuner: HostTuner) -> None:
    tuner.apply(confirm=Confirm(60.0, lambda _: None))
    late = msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, now=lambda: NOW + 61))
    (Path(tuner.host.files.root) / "proc/sys/vm/swappiness").write_text("33\n")
    with pytest.raises(UsageError, match="an earlier apply was not confirmed in time"):
        late.apply(confirm=Confirm(600.0, lambda _: None))
    assert late.pending() is not None


def test_a_wait_without_a_first_write_ends_with_an_undo(tuner: HostTuner) -> None:
    tuner.state.make()
    tuner.state.replace(CONFIRM, msgspec.json.encode(Pending("d", NOW + 60, (("sysctl", "key:vm.swappiness"),))))
    assert tuner.undo() == [] and tuner.pending() is None


def test_what_reads_back_in_other_words_needs_no_reboot(tmp_path: Path) -> None:
    files = {"sys/module/zswap/parameters/enabled": "Y\n", "proc/sys/kernel/random/boot_id": "b0\n"}
    write_tree(tmp_path, files, ["etc/modprobe.d"])
    tuner = session_of(tree(Files(str(tmp_path))), {"moduleOptions": {"zswap.enabled": "1"}})
    tuner.apply(limit=Disruption.REBOOT)
    assert status_of(tuner).waits_for_reboot == ()


def test_lines_that_are_not_understood_are_not_nothing() -> None:
    text = status_text(HostStatus(not_understood=2), NOW, 80)
    assert "2 lines are not understood" in text and "changed nothing" not in text
    assert (
        journal_text([], namer({}), 80, not_understood=2) == "2 lines are not understood by this version; they are kept"
    )


def test_what_waits_for_a_reboot_is_found_behind_what_does_not(tmp_path: Path) -> None:
    files = {
        "proc/sys/vm/swappiness": "60\n", "sys/module/kvm/parameters/halt_poll_ns": "200000\n",
        "sys/module/zswap/parameters/enabled": "N\n", "proc/sys/kernel/random/boot_id": "b0\n",
    }  # fmt: skip
    write_tree(tmp_path, files, ["etc/sysctl.d", "etc/modprobe.d"])
    host = tree(Files(str(tmp_path)))
    tune = {"sysctl": {"vm.swappiness": 10}, "moduleOptions": {"kvm.halt_poll_ns": 0}}
    tuner = session_of(host, tune)
    tuner.apply(limit=Disruption.REBOOT)
    keys = list(tuner.journal.applied())
    assert keys == [("sysctl", "key:vm.swappiness"), ("moduleOptions", "option:kvm.halt_poll_ns")]
    # What is set now and was changed since waits for no reboot; nor does what this version does not know.
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "33\n"})
    assert status_of(tuner).waits_for_reboot == (tuner.registry["moduleOptions"].title("option:kvm.halt_poll_ns"),)
    fewer = {name: one for name, one in tuner.registry.items() if name != "sysctl"}
    assert len(status_of(msgspec.structs.replace(tuner, registry=fewer)).waits_for_reboot) == 1


def test_a_wait_has_expired_at_its_deadline(tuner: HostTuner) -> None:
    tuner.apply(confirm=Confirm(60.0, lambda _: None))
    (Path(tuner.host.files.root) / "proc/sys/vm/swappiness").write_text("33\n")
    at_once = msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, now=lambda: NOW + 60))
    with pytest.raises(UsageError, match="an earlier apply was not confirmed in time"):
        at_once.apply(confirm=Confirm(600.0, lambda _: None))


def test_an_undo_of_one_setting_leaves_the_wait_of_all(tuner: HostTuner) -> None:
    tuner.state.make()
    tuner.state.replace(CONFIRM, msgspec.json.encode(Pending("d", NOW + 60, (("sysctl", "key:vm.swappiness"),))))
    assert tuner.undo({("sysctl", "key:vm.swappiness")}) == [] and tuner.pending() is not None


def test_an_undo_of_everything_ends_the_tale_of_a_revert(tuner: HostTuner) -> None:
    tuner.apply()
    tuner.state.replace(REVERTED, msgspec.json.encode(Reverted("d", NOW, 1)))
    assert tuner.reverted() is not None
    tuner.undo({("sysctl", "key:other")})
    assert tuner.reverted() is not None
    tuner.undo()
    assert tuner.reverted() is None


def test_an_undo_of_one_setting_tells_nothing_of_strange_lines(tuner: HostTuner, tmp_path: Path) -> None:
    tuner.apply()
    body = b'{"step":"from the future"}'
    with (tmp_path / tuner.state.folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"v":%d,"crc":"%08x","record":%s}\n' % (VERSION, zlib.crc32(body), body))
    again = session_of(tuner.host, {"sysctl": {"vm.swappiness": 10}})
    assert [one.result for one in again.undo({("sysctl", "key:vm.swappiness")})] == ["undone"]
    (kept,) = again.undo()
    assert kept.result == "failed" and "not understood by this version" in kept.reason


def test_an_apply_says_what_was_before_and_what_is_after(tuner: HostTuner) -> None:
    result = tuner.apply()
    before, after = result.before.report.findings[0], result.after.report.findings[0]
    assert (before.observed, after.observed) == (60, 10)


@pytest.mark.usefixtures("far_west")
def test_the_day_of_a_waiver_is_that_of_utc(tuner: HostTuner) -> None:
    """It is 2027-01-15, 08:00 in UTC."""
    accept = [{"tunable": "sysctl", "subject": "vm.swappiness", "reason": "ticket 7", "until": "2027-01-14"}]
    (finding,) = session_of(tuner.host, {"sysctl": {"vm.swappiness": 10}}, accept=accept).observe().report.findings
    assert finding.advice.startswith("its acceptance ended on 2027-01-14")
