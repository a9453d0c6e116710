"""Faults that a review found, each as the case that showed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import PlayedPrograms, session_of, tree, write_tree
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import Confirm
from tuneagent.errors import WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.jobs.launch import Rank, choose_gpu, rank_of

CPU = "sys/devices/system/cpu/cpu0/cpufreq"
UNCONFIRMED = {"sysctl": {"vm.swappiness": 10}}


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


def _with_swappiness(root: Path, tune: dict[str, Any] | None = None) -> Any:
    write_tree(root, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d"])
    return session_of(tree(Files(str(root))), tune or UNCONFIRMED)


def test_a_second_unconfirmed_apply_keeps_the_first_ones_keys_and_deadline(tmp_path: Path) -> None:
    armed: list[float] = []
    _with_swappiness(tmp_path).apply(confirm=Confirm(60, armed.append))
    both = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}}
    session = session_of(tree(Files(str(tmp_path))), both)
    session.apply(confirm=Confirm(3600, armed.append))
    pending = session.pending()
    assert pending is not None and len(pending.keys) == 2
    assert armed == [pending.deadline, pending.deadline]


def test_what_was_withheld_and_an_empty_plan_await_no_confirmation(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/devices/system/cpu/smt/control": "on\n"}, ["etc/tmpfiles.d"])
    armed: list[float] = []
    session = session_of(tree(Files(str(tmp_path))), {"smt": {"enabled": False}})
    session.apply(confirm=Confirm(60, armed.append), limit=Disruption.LIVE)
    assert session.pending() is None and armed == []


def test_an_offline_sibling_is_not_a_dropped_setting(tmp_path: Path) -> None:
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


def test_a_job_on_a_mig_device_starts_all_the_same() -> None:
    gpus = GpuSnapshot(driver_version="1", devices=(GpuDevice(uuid="GPU-1", index=0),))
    assert choose_gpu(gpus, "auto", {"CUDA_VISIBLE_DEVICES": "MIG-0123-4567"}) is None


def test_ranks_of_slurm_without_ntasks_per_node() -> None:
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_TASKS_PER_NODE": "4"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2"}).number == 2


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


class Reloading(PlayedPrograms):
    """A systemd that notes what it was asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, {"irqbalance": {"active": True, "enabled": True}})
        self.asked: list[str] = []

    def run(self, argv: Any, timeout_s: float = 20.0) -> Completed:
        self.asked.append(" ".join(argv))
        return super().run(argv, timeout_s)


def test_no_reload_of_systemd_that_could_cost_gpus(tmp_path: Path) -> None:
    from tuneagent.errors import UsageError
    from tuneagent.node.confirmation import arm
    from tuneagent.tunables.irqbalance import TUNABLE

    write_tree(
        tmp_path, {"dev/nvidiactl": "", "proc/sys/vm/swappiness": "60\n"}, ["etc/systemd/system", "etc/sysctl.d"]
    )
    programs = Reloading(tmp_path)
    session = session_of(tree(Files(str(tmp_path)), programs), UNCONFIRMED)
    with pytest.raises(UsageError, match="could take the GPUs"):
        arm(session, 1_800_000_060.0)
    with pytest.raises(WriteFailed, match="could take the GPUs"):
        TUNABLE.write(Facts(session.host), "irqbalance:banned", "")
    assert not [line for line in programs.asked if "reload" in line]


def test_grubby_is_not_asked_where_it_could_not_give_back(tmp_path: Path) -> None:
    write_tree(tmp_path, {
        "proc/cmdline": "root=/dev/sda1\n",
        "usr/sbin/grubby": "",
        "boot/loader/entries/a-1.conf": "linux /v\noptions root=/dev/sda1 iommu=off\n",
        "boot/loader/entries/a-2.conf": "linux /v\noptions root=/dev/sda1 iommu=pt\n",
    }, ["etc"])  # fmt: skip
    tune = {"kernelArguments": {"iommu": "soft", "hugepages": 8}}
    plan = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), tune).observe().plan
    reasons = {item.subject: item.reason for item in plan.refused}
    assert "boot entries differ" in reasons["arg:iommu"] and "order" in reasons["arg:hugepages"]
    assert not plan.changes and json.dumps(reasons)
