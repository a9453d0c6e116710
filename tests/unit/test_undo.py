"""Undo keeps out of what others changed; failed writes and failed reads back go back by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import yaml
from support import FIXTURES, Dies, FailingFiles, PlayedPrograms, read_tree, session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.journal import Journal
from tuneagent.engine.undo import _foreign_entries, undo
from tuneagent.errors import JournalError, Locked, PlanMoved, UsageError, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.persist.sysctl_d import SysctlD

FILES = {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n", "proc/sys/kernel/random/boot_id": "b0\n"}
TUNE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}}
POOL = "sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tree(tmp_path, FILES, ["etc/sysctl.d"])
    return tmp_path


def test_a_value_that_someone_else_changed_is_left_alone(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    (root / "proc/sys/vm/swappiness").write_text("33\n")
    results = {item.subject: item for item in session.undo()}
    assert results["key:vm.swappiness"].result == "conflict"
    assert "33" in results["key:vm.swappiness"].reason
    assert results["key:vm.stat_interval"].result == "undone"
    assert (root / "proc/sys/vm/swappiness").read_text() == "33\n"
    assert [item.result for item in session.undo(force=True)] == ["undone"]
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
    assert not (root / "etc/sysctl.d/99-zz-tuneagent.conf").exists()


def test_our_file_changed_by_hand_is_left_alone(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    own = root / "etc/sysctl.d/99-zz-tuneagent.conf"
    own.write_text("vm.swappiness = 77\nvm.stat_interval = 10\n")
    results = {item.subject: item.result for item in session.undo()}
    assert results == {"key:vm.swappiness": "conflict", "key:vm.stat_interval": "undone"}
    assert own.read_text().endswith("vm.swappiness = 77\n")


def test_what_a_reboot_ended_is_not_written_back(root: Path) -> None:
    (root / "etc/sysctl.d").rmdir()
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    write_tree(root, {**FILES, "proc/sys/kernel/random/boot_id": "b1\n", "proc/sys/vm/swappiness": "10\n"})
    assert {item.result for item in session.undo()} == {"ended"}
    assert (root / "proc/sys/vm/swappiness").read_text() == "10\n"


def test_a_persisted_value_set_again_by_our_file_at_boot_goes_back(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    (root / "proc/sys/kernel/random/boot_id").write_text("b1\n")
    assert {item.result for item in session.undo()} == {"undone"}
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_a_refused_write_fails_alone(root: Path) -> None:
    files = FailingFiles(str(root), {"proc/sys/vm/swappiness": "EINVAL Invalid argument"})
    applied = session_of(tree(files), TUNE).apply()
    results = {item.subject: item for item in applied.outcomes}
    assert results["key:vm.swappiness"].result == "failed"
    assert "EINVAL" in results["key:vm.swappiness"].reason
    assert results["key:vm.stat_interval"].result == "verified"
    assert "swappiness" not in (root / "etc/sysctl.d/99-zz-tuneagent.conf").read_text()


def test_a_write_that_does_not_stick_is_a_failure(root: Path) -> None:
    session = session_of(tree(FailingFiles(str(root), deaf=["proc/sys/vm/swappiness"])), TUNE)
    results = {item.subject: item for item in session.apply().outcomes}
    assert results["key:vm.swappiness"].result == "failed"
    assert "wrote 10, reads back 60" in results["key:vm.swappiness"].reason
    assert ("sysctl", "key:vm.swappiness") not in session.journal.applied()


def test_huge_pages_given_in_part_are_released_on_every_node(tmp_path: Path) -> None:
    class Short(Files):
        def write(self, path: str, text: str) -> None:
            super().write(path, "448\n" if "node1" in path and int(text) > 448 else text)

    write_tree(
        tmp_path,
        {
            POOL.format(0): "0\n", POOL.format(1): "0\n", "sys/devices/system/cpu/online": "0-1\n",
            "sys/devices/system/node/node0/cpulist": "0\n", "sys/devices/system/node/node1/cpulist": "1\n",
        },
    )  # fmt: skip
    before = read_tree(tmp_path)
    applied = session_of(
        tree(Short(str(tmp_path))), {"hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 2000}]}}
    ).apply()
    assert {item.result for item in applied.outcomes} == {"failed"}
    assert any("2000 pages asked, 448 given" in item.reason for item in applied.outcomes)
    assert read_tree(tmp_path) == before


def test_a_plan_that_moved_is_refused_and_nothing_written(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    digest = session.observe().plan.digest
    assert session.observe().plan.digest == digest
    (root / "proc/sys/vm/swappiness").write_text("50\n")
    before = read_tree(root)
    with pytest.raises(PlanMoved):
        session.apply(digest=digest)
    assert read_tree(root) == before


def test_what_the_profile_no_longer_names_goes_back(root: Path) -> None:
    session_of(tree(Files(str(root))), TUNE).apply()
    smaller = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    plan = smaller.observe().plan
    assert [(change.subject, change.persistence) for change in plan.changes] == [("key:vm.stat_interval", "baseline")]
    smaller.apply()
    assert (root / "proc/sys/vm/stat_interval").read_text() == "1\n"
    assert set(smaller.journal.applied()) == {("sysctl", "key:vm.swappiness")}


def test_another_profile_needs_replace(root: Path) -> None:
    session_of(tree(Files(str(root))), TUNE).apply()
    other = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 20}}, name="other")
    with pytest.raises(UsageError, match="--replace"):
        other.apply()
    other.apply(over_other=True)
    assert (root / "proc/sys/vm/swappiness").read_text() == "20\n"


def test_one_lock_and_one_hold_file(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    with session.locked(), pytest.raises(Locked, match="another tuneagent"):
        session.apply()
    write_tree(root, {"etc/tuneagent/hold": "ticket 1\n"})
    with pytest.raises(UsageError, match="nothing is written"):
        session.apply()


def test_a_waiver_holds_until_its_day(root: Path) -> None:
    accept = {"tunable": "sysctl", "subject": "key:vm.swappiness", "reason": "database", "until": "2030-01-01"}
    assert _verdict(root, accept) is Verdict.ACCEPTED
    assert _verdict(root, {**accept, "until": "2020-01-01"}) is Verdict.DRIFTED


def _verdict(root: Path, accept: dict[str, str]) -> Verdict:
    report = session_of(tree(Files(str(root))), TUNE, accept=[accept]).observe().report
    return next(finding.verdict for finding in report.findings if finding.subject == "key:vm.swappiness")


def test_undo_after_our_file_was_deleted_and_repaired(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    before = read_tree(root)
    session.apply()
    (root / "etc/sysctl.d/99-zz-tuneagent.conf").unlink()
    session.apply()
    assert {item.result for item in session.undo()} == {"undone"}
    assert read_tree(root) == before


def test_a_repair_of_the_running_value_keeps_what_is_persisted(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    before = read_tree(root)
    session.apply()
    (root / "proc/sys/vm/swappiness").write_text("44\n")
    session.apply()
    # After a reboot our file sets the value again, and someone drifts it once more.
    (root / "proc/sys/kernel/random/boot_id").write_text("b1\n")
    (root / "proc/sys/vm/swappiness").write_text("40\n")
    session.apply()
    assert {item.result for item in session.undo()} == {"undone"}
    (root / "proc/sys/kernel/random/boot_id").write_text("b0\n")
    assert read_tree(root) == before


def test_undo_restores_a_wider_interrupt_mask(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/devices/system/node/node0/cpulist": "0-1\n", "sys/devices/system/node/node1/cpulist": "2-3\n",
            "sys/bus/pci/devices/0000:1b:00.0/class": "0x020000\n",
            "sys/bus/pci/devices/0000:1b:00.0/numa_node": "1\n",
            "sys/bus/pci/devices/0000:1b:00.0/msi_irqs/40": "msix\n",
            "proc/irq/40/smp_affinity_list": "0-3\n",
        },
    )  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"irqAffinity": {"network": "local"}})
    session.apply()
    assert (tmp_path / "proc/irq/40/smp_affinity_list").read_text() == "2-3\n"
    session.undo()
    assert (tmp_path / "proc/irq/40/smp_affinity_list").read_text() == "0-3\n"


@pytest.mark.parametrize("line", ["w /sys/kernel/mm/ksm/run - - - - 1", "w /sys/kernel/mm/ks?/run - - - - 1"])
def test_a_tmpfiles_line_that_wins_over_ours_is_a_conflict(tmp_path: Path, line: str) -> None:
    name = "00-00-admin.conf" if "?" not in line else "zz-admin.conf"
    write_tree(tmp_path, {"sys/kernel/mm/ksm/run": "1\n", f"etc/tmpfiles.d/{name}": line + "\n"})
    plan, judged = (
        (seen := session_of(tree(Files(str(tmp_path))), {"ksm": {"run": False}}).observe()).plan,
        seen.assessments,
    )
    assert [item.finding.verdict for item in judged] == [Verdict.CONFLICT]
    assert judged[0].finding.owner == f"/etc/tmpfiles.d/{name}"
    assert not plan.changes


def test_a_later_tmpfiles_line_for_the_same_path_loses_to_ours(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {"sys/kernel/mm/ksm/run": "1\n", "etc/tmpfiles.d/10-admin.conf": "w /sys/kernel/mm/ksm/run - - - - 1\n"},
    )
    session = session_of(tree(Files(str(tmp_path))), {"ksm": {"run": False}})
    assert [item.result for item in session.apply().outcomes] == ["verified"]
    assert [finding.next_boot for finding in session.observe().report.findings] == [0]


def test_replacing_a_profile_takes_back_what_only_the_old_one_named(root: Path) -> None:
    session_of(tree(Files(str(root))), TUNE).apply()
    other = session_of(tree(Files(str(root))), {"sysctl": {"vm.stat_interval": 20}}, name="other")
    other.apply(over_other=True)
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
    assert (root / "proc/sys/vm/stat_interval").read_text() == "20\n"


GRUB = {
    "proc/cmdline": "root=/dev/sda1\n",
    "etc/default/grub": 'GRUB_CMDLINE_LINUX=""\n',
    "boot/grub/grub.cfg": "\tlinux /vmlinuz root=/dev/sda1\n",
}


def test_death_between_our_grub_file_and_update_grub(tmp_path: Path) -> None:
    class DiesInUpdate(PlayedPrograms):
        def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
            raise Dies

    write_tree(tmp_path, GRUB, ["etc/default/grub.d"])
    before = read_tree(tmp_path)
    tune = {"kernelArguments": {"hugepages": 16, "hugepagesz": "1G"}}
    with pytest.raises(Dies):
        session_of(tree(Files(str(tmp_path)), DiesInUpdate(tmp_path)), tune).apply(limit=Disruption.REBOOT)
    session = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), tune)
    session.undo()
    assert read_tree(tmp_path) == before
    applied = session.apply(limit=Disruption.REBOOT)
    assert {item.result for item in applied.outcomes} == {"verified"}, applied.outcomes
    assert "hugepagesz=1G hugepages=16" in (tmp_path / "boot/grub/grub.cfg").read_text()


def test_a_damaged_whole_line_is_no_empty_journal(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    path = root / "var/lib/tuneagent/journal.jsonl"
    first = path.read_bytes().splitlines(keepends=True)[0]
    for data in (first.replace(b'"prior":60', b'"prior":61'), b"\xff\xfe\n", b'{"v":9}\n'):
        path.write_bytes(data)
        with pytest.raises(JournalError):
            session.journal.records()
        with pytest.raises(JournalError):
            session.undo()


def test_a_conflict_takes_our_boot_value_away_all_the_same(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    (root / "proc/sys/vm/swappiness").write_text("33\n")
    results = {item.subject: item for item in session.undo()}
    assert "our file no longer sets it" in results["key:vm.swappiness"].reason
    assert not (root / "etc/sysctl.d/99-zz-tuneagent.conf").exists()


def test_a_boot_value_that_we_cannot_change_is_not_persisted(root: Path) -> None:
    write_tree(root, {"usr/lib/sysctl.d/50.conf": "vm.swappiness = 70\n", "proc/sys/vm/swappiness": "10\n"})
    (root / "etc/sysctl.d").rmdir()
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    plan, judged = (seen := session.observe()).plan, seen.assessments
    assert [item.finding.verdict for item in judged] == [Verdict.NOT_PERSISTED]
    assert not plan.changes


CPU = "sys/devices/system/cpu/cpu0/cpufreq"


class SelfChoosing(Files):
    """A driver that takes no other preference while its governor is performance."""

    def write(self, path: str, text: str) -> None:
        other = path.endswith("energy_performance_preference") and text.strip() != "performance"
        if other and self.read(f"{CPU}/scaling_governor") == "performance":
            raise WriteFailed(f"{path}: EBUSY Device or resource busy")
        super().write(path, text)


def test_a_preference_goes_back_after_its_governor(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "sys/devices/system/cpu/online": "0\n",
        f"{CPU}/scaling_governor": "powersave\n",
        f"{CPU}/energy_performance_preference": "balance_performance\n",
    }, ["etc/tmpfiles.d"])  # fmt: skip
    tune = {"cpuGovernor": {"governor": "performance"}, "cpuFrequency": {"energyPreference": "performance"}}
    session = session_of(tree(SelfChoosing(str(tmp_path))), tune)
    assert {outcome.result for outcome in session.apply().outcomes} == {"verified"}
    assert all(result.is_settled for result in session.undo())
    assert (tmp_path / CPU / "energy_performance_preference").read_text() == "balance_performance\n"
    assert not (tmp_path / "etc/tmpfiles.d/00-00-tuneagent.conf").exists()


@pytest.mark.parametrize("path", sorted((FIXTURES / "journals").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_an_earlier_version_applied_is_undone(path: Path, tmp_path: Path) -> None:
    kept = yaml.safe_load(path.read_text())
    write_tree(tmp_path, kept["after"])
    results = session_of(tree(Files(str(tmp_path))), {}).undo()
    assert {one.result for one in results} == {"undone"} and len(results) == 30
    assert read_tree(tmp_path) == {name: content.encode() for name, content in kept["before"].items()}


def undone(session: HostTuner, **more: bool) -> dict[str, tuple[str, object, str]]:
    return {item.subject: (item.result, item.value, item.reason) for item in session.undo(**more)}


def test_each_end_has_its_words(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    (root / "proc/sys/vm/swappiness").write_text("33\n")
    assert undone(session) == {
        "key:vm.stat_interval": ("undone", 1, ""),
        "key:vm.swappiness": (
            "conflict", 33,
            "wrote 10, found 33: changed by someone else; --force writes anyway; our file no longer sets it",
        ),
    }  # fmt: skip
    assert undone(session, force=True) == {"key:vm.swappiness": ("undone", 60, "")}
    assert undone(session) == {}


def test_what_is_gone_has_ended_or_came_with_the_boot_is_told(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    (root / "proc/sys/vm/swappiness").unlink()
    (root / "proc/sys/kernel/random/boot_id").write_text("b1\n")
    assert undone(session) == {
        "key:vm.swappiness": ("gone", None, "no longer there"),
        "key:vm.stat_interval": ("undone", 1, "set again by our file at boot, now back to the value before it"),
    }
    assert not (root / "etc/sysctl.d/99-zz-tuneagent.conf").exists()


def test_what_a_boot_has_ended_is_told(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/sys/kernel/random/boot_id": "b0\n",
            "sys/devices/system/cpu/online": "0-1\n",
            "sys/devices/system/node/online": "0-1\n",
            "sys/devices/system/node/node0/cpulist": "0\n",
            "sys/devices/system/node/node1/cpulist": "1\n",
            "sys/bus/pci/devices/0000:1b:00.0/class": "0x020000\n",
            "sys/bus/pci/devices/0000:1b:00.0/numa_node": "0\n",
            "sys/bus/pci/devices/0000:1b:00.0/local_cpulist": "0\n",
            "sys/bus/pci/devices/0000:1b:00.0/msi_irqs/40": "msix\n",
            "proc/irq/40/smp_affinity_list": "1\n",
            "proc/interrupts": "   CPU0 CPU1\n 40: 1 2 PCI-MSIX-0000:1b:00.0 0-edge eth0-0\n",
        },
    )
    session = session_of(tree(Files(str(tmp_path))), {"irqAffinity": {"network": "local"}})
    assert [one.result for one in session.apply().outcomes] == ["verified"]
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("b1\n")
    # What the next boot made of it is neither ours nor the baseline: it is not looked at.
    (tmp_path / "proc/irq/40/smp_affinity_list").write_text("0-1\n")
    assert list(undone(session).values()) == [("ended", None, "a reboot has ended it already")]
    assert (tmp_path / "proc/irq/40/smp_affinity_list").read_text() == "0-1\n"


def test_what_cannot_be_read_is_not_written_without_force(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    own = root / "etc/sysctl.d/99-zz-tuneagent.conf"
    host = tree(Files(str(root)), None, {"/proc/sys/vm/swappiness": "EACCES"})
    blind = session_of(host, TUNE)
    (root / "proc/sys/vm/swappiness").unlink()
    (root / "proc/sys/vm/swappiness").mkdir()
    result, value, reason = undone(blind)["key:vm.swappiness"]
    assert (result, value) == ("failed", None) and reason.startswith(
        "not read, so not written: /proc/sys/vm/swappiness"
    )
    assert "vm.swappiness = 10" in own.read_text()


def test_a_line_of_ours_that_someone_changed_is_told(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    own = root / "etc/sysctl.d/99-zz-tuneagent.conf"
    own.write_text("vm.swappiness = 77\nvm.stat_interval = 10\n")
    assert undone(session)["key:vm.swappiness"] == (
        "conflict", None, "/etc/sysctl.d/99-zz-tuneagent.conf: vm.swappiness was '10' when written, now '77'",
    )  # fmt: skip


def test_what_a_profile_drops_goes_back_and_is_told(root: Path) -> None:
    session_of(tree(Files(str(root))), TUNE).apply()
    without = session_of(tree(Files(str(root))), {"sysctl": {"vm.stat_interval": 10}})
    (outcome,) = without.apply().outcomes
    assert (outcome.subject, outcome.result, outcome.reason) == (
        "key:vm.swappiness",
        "verified",
        "back to its baseline",
    )
    session_of(tree(Files(str(root))), TUNE).apply()
    (root / "proc/sys/vm/swappiness").write_text("33\n")
    (outcome,) = without.apply().outcomes
    assert outcome.result == "failed" and outcome.reason.startswith("wrote 10, found 33: changed by someone else")


def test_an_undo_that_cannot_be_noted_says_what_is_true(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    session.apply()

    def full(self: Journal, record: object) -> None:
        raise JournalError("journal: ENOSPC")

    monkeypatch.setattr(Journal, "append", full)
    assert undone(session) == {
        "key:vm.swappiness": (
            "failed", 60, "it is 60 now, but not noted: journal: ENOSPC; make room for the journal and run undo again",
        ),
    }  # fmt: skip
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_what_a_profile_drops_is_not_put_back_by_what_it_adds(tmp_path: Path) -> None:
    names = ("page-cluster", "stat_interval", "swappiness")
    write_tree(tmp_path, {f"proc/sys/vm/{name}": "60\n" for name in names}, ["etc/sysctl.d"])
    own = tmp_path / "etc/sysctl.d/99-zz-tuneagent.conf"
    session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.page-cluster": 1, "vm.stat_interval": 2}}).apply()
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.stat_interval": 3, "vm.swappiness": 4}})
    assert {one.result for one in session.apply(over_other=True).outcomes} == {"verified"}
    assert "page-cluster" not in own.read_text()
    assert {one.result for one in session.undo()} == {"undone"} and not own.exists()


class Rounding(Files):
    """A kernel that makes something else of our values, and takes what it wrote itself."""

    def write(self, path: str, text: str) -> None:
        super().write(path, text if "\t" in text else "4096\t65536\t1048576\n")


def test_what_did_not_read_back_goes_back_byte_for_byte(tmp_path: Path) -> None:
    rmem = tmp_path / "proc/sys/net/ipv4/tcp_rmem"
    write_tree(tmp_path, {
        "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n", "etc/sysctl.d/10-own.conf": "net.ipv4.tcp_rmem = 1 2 3\n",
    }, ["etc/sysctl.d"])  # fmt: skip
    session = session_of(tree(Rounding(str(tmp_path))), {"sysctl": {"net.ipv4.tcp_rmem": "4096 262144 6291456"}})
    (outcome,) = session.apply().outcomes
    assert outcome.result == "failed"
    assert outcome.reason == "wrote 4096 262144 6291456, reads back 4096 65536 1048576"
    assert rmem.read_text() == "4096\t131072\t6291456\n"
    assert not (tmp_path / "etc/sysctl.d/99-zz-tuneagent.conf").exists() and not session.journal.applied()
    assert [one.step for one in session.journal.records()] == ["intended", "done", "reverted"]
    assert session.journal.records()[-1].reason == outcome.reason


def test_a_value_that_the_next_boot_would_not_set_is_a_failure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    real = SysctlD.replace

    def other(self: SysctlD, facts: Facts, entries: Mapping[str, str]) -> None:
        real(self, facts, dict.fromkeys(entries, "11"))

    monkeypatch.setattr(SysctlD, "replace", other)
    (outcome,) = session.apply().outcomes
    assert (outcome.result, outcome.reason) == ("failed", "the next boot would not set 10 but 11")
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_what_can_neither_be_made_nor_taken_back_is_told_and_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})

    def stuck(self: Files, path: str, text: str) -> None:
        (root / "proc/sys/vm/swappiness").write_text("33\n")

    with monkeypatch.context() as patch:
        patch.setattr(Files, "write", stuck)
        (outcome,) = session.apply().outcomes
    assert outcome.result == "failed" and outcome.reason == (
        "wrote 10, reads back 33; and going back failed: wrote 60, reads back 33; there now: 33"
    )
    # What is there is ours to undo, whatever it is.
    assert [one.step for one in session.journal.applied().values()] == ["left"]
    assert undone(session) == {"key:vm.swappiness": ("undone", 60, "")}
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_what_waits_for_a_tunable_that_failed_is_not_begun(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "sys/devices/system/cpu/online": "0\n", f"{CPU}/scaling_governor": "powersave\n",
        f"{CPU}/energy_performance_preference": "balance_performance\n",
    }, ["etc/tmpfiles.d"])  # fmt: skip
    files = FailingFiles(str(tmp_path), {f"{CPU}/scaling_governor": "EBUSY"})
    tune = {"cpuGovernor": {"governor": "performance"}, "cpuFrequency": {"energyPreference": "performance"}}
    results = {one.tunable: (one.result, one.reason) for one in session_of(tree(files), tune).apply().outcomes}
    assert results["cpuGovernor"][0] == "failed"
    assert results["cpuFrequency"] == ("skipped", "cpuGovernor failed before it")
    assert (tmp_path / CPU / "energy_performance_preference").read_text() == "balance_performance\n"


def test_a_heavier_change_says_which_leave_it_needs(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/devices/system/cpu/smt/control": "on\n"}, ["etc/tmpfiles.d"])
    (outcome,) = session_of(tree(Files(str(tmp_path))), {"smt": {"enabled": False}}).apply().outcomes
    assert (outcome.result, outcome.reason) == ("withheld", "needs --max-disruption kubelet")


def test_a_value_and_a_line_that_someone_else_changed_are_both_told(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    own = root / "etc/sysctl.d/99-zz-tuneagent.conf"
    (root / "proc/sys/vm/swappiness").write_text("33\n")
    own.write_text("vm.swappiness = 77\nvm.stat_interval = 10\n")
    result, value, reason = undone(session)["key:vm.swappiness"]
    assert (result, value) == ("conflict", 33)
    assert reason.startswith("wrote 10, found 33: changed by someone else; --force writes anyway; our file was left: ")
    assert reason.endswith(" /etc/sysctl.d/99-zz-tuneagent.conf: vm.swappiness was '10' when written, now '77'")
    assert "vm.swappiness = 77\n" in own.read_text()


def test_a_write_back_that_is_refused_says_why_and_the_rest_goes_on(root: Path) -> None:
    session_of(tree(Files(str(root))), TUNE).apply()
    files = FailingFiles(str(root), {"proc/sys/vm/swappiness": "EINVAL Invalid argument"})
    results = undone(session_of(tree(files), TUNE))
    assert results["key:vm.stat_interval"] == ("undone", 1, "")
    result, value, reason = results["key:vm.swappiness"]
    assert (result, value) == ("failed", None) and "EINVAL Invalid argument" in reason


def test_a_tunable_that_this_version_lacks_is_told(root: Path) -> None:
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    with session.locked() as journal:
        results = undo(session.host, journal, {})
    assert {(one.result, one.reason) for one in results} == {("failed", "this tuneagent knows no tunable sysctl")}
    assert (root / "proc/sys/vm/swappiness").read_text() == "10\n"


def test_a_setting_that_fails_alone_is_tried_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    session.apply()
    asked: list[str] = []

    def refused(self: Files, path: str, text: str) -> None:
        asked.append(path)
        raise WriteFailed(f"/{path}: EINVAL Invalid argument")

    monkeypatch.setattr(Files, "write", refused)
    assert [one.result for one in session.undo()] == ["failed"]
    assert asked == ["proc/sys/vm/swappiness"]


def test_a_line_of_ours_that_came_back_is_told(root: Path) -> None:
    """A key that we took out of our file on purpose, and that someone wrote there again."""
    session = session_of(tree(Files(str(root))), TUNE)
    session.apply()
    facts, sysctl = Facts(session.host), session.registry["sysctl"]
    setting = session.journal.applied()["sysctl", "key:vm.swappiness"]
    away = msgspec.structs.replace(setting, drop_in_wrote={"vm.swappiness": None}, drop_in_baseline={})
    assert _foreign_entries(facts, sysctl, away) == (
        "/etc/sysctl.d/99-zz-tuneagent.conf: vm.swappiness was not there when written, now '10'"
    )
    # Its value before us is no one else's.
    put_back = msgspec.structs.replace(away, drop_in_baseline={"vm.swappiness": "10"})
    assert _foreign_entries(facts, sysctl, put_back) is None
    # A line that is gone is as good as taken back, and hides nothing of the next one.
    gone = msgspec.structs.replace(away, drop_in_wrote={"vm.missing": "1", "vm.swappiness": None})
    assert "vm.swappiness was not there" in str(_foreign_entries(facts, sysctl, gone))
