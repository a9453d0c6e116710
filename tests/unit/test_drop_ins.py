"""Files that other programs read at boot: what stands beside ours, and what was done to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import PlayedPrograms, session_of, tree, write_tree
from tuneagent.errors import ReadFailed, UsageError, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.persist.own_files import put, take_away


def test_cpus_of_a_slice_add_up_over_drop_ins(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "sys/fs/cgroup/cgroup.controllers": "cpuset\n",
        "sys/fs/cgroup/system.slice/cpuset.cpus": "0-1\n",
        "etc/systemd/system/system.slice.d/50-a.conf": "[Slice]\nAllowedCPUs=0-1\n",
        "etc/systemd/system/system.slice.d/60-b.conf": "[Slice]\nAllowedCPUs=4-7\n",
    })  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"cgroupSlices": {"system.slice": "0-1"}})
    (finding,) = session.observe().report.findings
    assert finding.next_boot == "0-1,4-7" and finding.verdict.value == "not-persisted"


def test_a_drop_in_changed_by_hand_is_written_anew(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "sys/bus/pci/devices/0000:1b:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:1b:00.0/power/control": "auto\n",
    }, ["etc/udev/rules.d"])  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"pciPower": {"devices": ["gpu"]}})
    session.apply()
    rules = tmp_path / "etc/udev/rules.d/99-zz-tuneagent.rules"
    right = rules.read_text()
    rules.write_text(right.replace("ACTION", "# ACTION"))
    (finding,) = session.observe().report.findings
    assert finding.verdict.value == "not-persisted"
    assert [outcome.result for outcome in session.apply().outcomes] == ["verified"]
    assert rules.read_text() == right


def test_a_masked_modprobe_file_says_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/module/kvm/parameters/halt_poll_ns": "200000\n"}, ["etc/modprobe.d"])
    (tmp_path / "etc/modprobe.d/10-x.conf").symlink_to("/dev/null")
    session = session_of(tree(Files(str(tmp_path))), {"moduleOptions": {"kvm.halt_poll_ns": 0}})
    assert session.observe().report.findings[0].verdict.value == "drifted"


def test_an_unreadable_file_beside_a_setting_ends_no_audit(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/firmware/acpi/platform_profile": "balanced\n"}, ["etc/tmpfiles.d"])
    (tmp_path / "sys/firmware/acpi/platform_profile_choices").write_bytes(b"\xff\xfe")
    session = session_of(tree(Files(str(tmp_path))), {"kernelFiles": {"platformProfile": "performance"}})
    (finding,) = session.observe().report.findings
    assert finding.verdict.value == "drifted" and "not found out" in finding.advice


def test_lines_of_an_offline_cpu_are_kept(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/online": "0-1\n"}
    for cpu in (0, 1):
        files[f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "powersave\n"
        files[f"sys/devices/system/cpu/cpu{cpu}/online"] = "1\n"
    write_tree(tmp_path, files, ["etc/tmpfiles.d"])
    session = session_of(tree(Files(str(tmp_path))), {"cpuGovernor": {"governor": "performance"}})
    session.apply()
    write_tree(tmp_path, {"sys/devices/system/cpu/online": "0\n", "sys/devices/system/cpu/cpu1/online": "0\n"})
    assert not session.observe().plan.changes
    assert ("cpuGovernor", "cpu:1") in session.journal.applied()


class Reloading(PlayedPrograms):
    """A systemd that notes what it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, {"irqbalance": {"active": True, "enabled": True}})
        self.asked: list[str] = []

    def run(self, argv: Any, timeout_s: float = 20.0) -> Completed:
        self.asked.append(" ".join(argv))
        return super().run(argv, timeout_s)


def test_no_reload_of_systemd_that_could_cost_gpus(tmp_path: Path) -> None:
    from tuneagent.node.confirmation import arm
    from tuneagent.tunables.irqbalance import TUNABLE

    write_tree(
        tmp_path, {"dev/nvidiactl": "", "proc/sys/vm/swappiness": "60\n"}, ["etc/systemd/system", "etc/sysctl.d"]
    )
    programs = Reloading(tmp_path)
    session = session_of(tree(Files(str(tmp_path)), programs), {"sysctl": {"vm.swappiness": 10}})
    with pytest.raises(UsageError, match="could take the GPUs"):
        arm(session, 1_800_000_060.0)
    with pytest.raises(WriteFailed, match="could take the GPUs"):
        TUNABLE.write(Facts(session.host), "irqbalance:banned", "")
    assert not [line for line in programs.asked if "reload" in line]


@pytest.mark.parametrize("target", ["50-site.conf", "/srv/site.conf", "/dev/null", "nowhere.conf"])
def test_a_link_under_our_name_is_someone_elses(tmp_path: Path, target: str) -> None:
    write_tree(
        tmp_path,
        {
            "proc/sys/vm/swappiness": "60\n",
            "etc/sysctl.d/50-site.conf": "",
            "srv/site.conf": "# admin\n",
            "dev/null": "",
        },
    )
    own = tmp_path / "etc/sysctl.d/99-zz-tuneagent.conf"
    own.symlink_to(target)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "proc" not in str(path)}
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    (finding,) = session.observe().report.findings
    told = "/etc/sysctl.d/99-zz-tuneagent.conf is a link, not a file of tuneagent's"
    assert finding.verdict.value == "drifted" and finding.cannot_persist == told
    assert [one.result for one in session.apply().outcomes] == ["verified"]
    (finding,) = session.observe().report.findings
    assert finding.verdict.value == "not-persisted" and told in finding.advice
    assert all(one.is_settled for one in session.undo()) and own.is_symlink()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "proc" not in str(path)}
    assert {path: text for path, text in after.items() if "var/lib" not in str(path)} == before


def test_hardware_that_is_not_known_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = "sys/bus/pci/devices/0000:1b:00.0"
    write_tree(tmp_path, {
        "sys/devices/system/cpu/online": "0-1\n", f"{nic}/class": "0x020000\n", f"{nic}/net/eth0/ifindex": "2\n",
        "sys/class/net/eth0/queues/rx-0/rps_cpus": "3\n",
    }, ["etc/udev/rules.d"])  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"netQueues": {"rps": "off"}})
    assert [one.result for one in session.apply().outcomes] == ["verified"]
    real = Files.names

    def names(self: Files, path: str) -> list[str]:
        if path.strip("/") == "sys/bus/pci/devices":
            raise ReadFailed("/sys/bus/pci/devices: EMFILE Too many open files")
        return real(self, path)

    monkeypatch.setattr(Files, "names", names)
    (result,) = session.undo()
    assert result.result == "failed" and "not read, so not written" in result.reason
    assert ("netQueues", result.subject) in session.journal.applied()


def test_a_file_of_ours_names_the_topmost_folder_that_was_made_for_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {}, ["etc"])
    path = "etc/systemd/system/irqbalance.service.d/zz-tuneagent.conf"
    mark = "# tuneagent made the folder /etc/systemd with this file.\n"
    for text in ("# one\nA=1\n", "# two\nA=2\n"):
        # The mark stays when the file is replaced, although its folder is there by then.
        put(Facts(tree(Files(str(tmp_path)))), path, text)
        head, _, rest = text.partition("\n")
        assert (tmp_path / path).read_text() == f"{head}\n{mark}{rest}"
    take_away(Facts(tree(Files(str(tmp_path)))), path)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "etc"]


def test_a_folder_that_was_there_is_not_marked(tmp_path: Path) -> None:
    write_tree(tmp_path, {}, ["etc/systemd/system"])
    path = "etc/systemd/system/irqbalance.service.d/zz-tuneagent.conf"
    put(Facts(tree(Files(str(tmp_path)))), path, "# one\n")
    assert "/etc/systemd/system/irqbalance.service.d with this file" in (tmp_path / path).read_text()
    put(Facts(tree(Files(str(tmp_path)))), "etc/systemd/system/plain.conf", "# one\nA=1\n")
    assert (tmp_path / "etc/systemd/system/plain.conf").read_text() == "# one\nA=1\n"
