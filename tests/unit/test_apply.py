"""What an apply notes of itself, what it takes for its own, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from captured_hosts import HOSTS, tuner_of
from support import PlayedPrograms, session_of, tree, write_tree
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.report import ProfileName
from tuneagent.contracts.values import Lifetime
from tuneagent.engine import host_tuner
from tuneagent.engine.applied_settings import fold
from tuneagent.engine.apply import context_of
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.plan import narrowed
from tuneagent.errors import PlanMoved, ProfileInvalid
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

FILES = {
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/vm/stat_interval": "1\n",
    "proc/sys/kernel/osrelease": "6.8.0-40-generic\n",
    "proc/sys/kernel/random/boot_id": "b0\n",
    "sys/kernel/mm/ksm/run": "1\n",
}
TUNE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}, "ksm": {"run": False}}


@pytest.fixture
def tuner(tmp_path: Path) -> HostTuner:
    write_tree(tmp_path, FILES, ["etc/sysctl.d", "etc/tmpfiles.d"])
    return session_of(tree(Files(str(tmp_path))), TUNE)


def test_records_say_which_profile_wrote_what_on_which_boot_and_kernel(tuner: HostTuner) -> None:
    plan = tuner.apply(only=("vm.swappiness",)).plan
    intended, *rest = tuner.journal.records()
    assert intended == Record(
        step="intended", time=1_800_000_000.0, plan=plan.digest, tunable="sysctl", lifetime=Lifetime.PERSISTENT, boot_id="b0",
        kernel="6.8.0-40-generic", driver="", profile="case", revision=tuner.profile.revision, reason="",
        subjects=(
            SubjectRecord(
                subject="key:vm.swappiness", prior=60, wrote=10, live=True, drop_in_prior={"vm.swappiness": None},
                drop_in_wrote={"vm.swappiness": "10"},
            ),
        ),
    )  # fmt: skip
    named = (SubjectRecord(subject="key:vm.swappiness"),)
    assert [one.step for one in rest] == ["done", "verified"]
    assert all(one == msgspec.structs.replace(intended, step=one.step, subjects=named, time=one.time) for one in rest)


def test_a_stop_leaves_every_tunable_that_was_not_begun(tuner: HostTuner) -> None:
    outcomes = tuner.apply(stop=lambda: True).outcomes
    assert {(one.tunable, one.subject) for one in outcomes} == {
        ("sysctl", "key:vm.swappiness"), ("sysctl", "key:vm.stat_interval"), ("ksm", "ksm:run"),
    }  # fmt: skip
    assert {(one.result, one.reason) for one in outcomes} == {("skipped", "stopped")}


def test_a_record_of_a_gpu_says_which_driver_wrote_it(tmp_path: Path) -> None:
    facts = Facts(tuner_of(HOSTS / "h200x8-vm", tmp_path, "generic").host)
    profile = ProfileName("p", "r")
    assert context_of(facts, profile, with_driver=True).driver == "580.159.04"
    assert context_of(facts, profile, with_driver=False).driver == ""


def test_only_leaves_out_changes_refusals_and_what_the_digest_says(tuner: HostTuner, tmp_path: Path) -> None:
    whole = tuner.observe().plan
    applied = tuner.apply(only=("ksm", "vm.swappiness"))
    assert {(one.tunable, one.subject) for one in applied.outcomes} == {
        ("ksm", "ksm:run"),
        ("sysctl", "key:vm.swappiness"),
    }
    assert (tmp_path / "proc/sys/vm/stat_interval").read_text() == "1\n"
    assert applied.plan.digest != whole.digest
    assert applied.chosen == {("ksm", "ksm:run"), ("sysctl", "key:vm.swappiness")}


def test_a_plan_of_which_only_a_part_is_chosen_names_only_its_refusals(tmp_path: Path) -> None:
    entries = {f"boot/loader/entries/a-{n}.conf": f"options iommu={value}\n" for n, value in enumerate(("off", "pt"))}
    write_tree(tmp_path, {**FILES, **entries, "usr/sbin/grubby": "", "proc/cmdline": "iommu=off\n"}, ["etc/sysctl.d"])
    tune = {"kernelArguments": {"iommu": "soft"}, "sysctl": {"vm.swappiness": 10}}
    session = session_of(tree(Files(str(tmp_path)), PlayedPrograms(tmp_path)), tune)
    whole = session.observe()
    assert [one.tunable for one in whole.plan.refused] == ["kernelArguments"]
    assert narrowed(whole.plan, whole.chosen(("sysctl",))).refused == ()
    assert [one.tunable for one in narrowed(whole.plan, whole.chosen(("kernelArguments",))).refused] == [
        "kernelArguments"
    ]


def test_a_digest_of_another_plan_is_refused_with_both(tuner: HostTuner) -> None:
    digest = tuner.observe().plan.digest
    with pytest.raises(PlanMoved, match=rf"the plan now has digest {digest}, not sha256:other: review the new plan"):
        tuner.apply(digest="sha256:other")


def test_only_a_daemon_makes_again_what_a_driver_forgot(tuner: HostTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        host_tuner, "repeats", lambda plan, applied: asked.append((plan.digest, dict(applied))) or set()
    )
    tuner.apply()
    assert asked == []
    plan = tuner.apply(again=True).plan
    assert asked == [(plan.digest, tuner.journal.applied())]


def record(boot_id: str, prior: object, lifetime: Lifetime, *, live: bool = True, entry: str | None = None) -> Record:
    subject = SubjectRecord(
        subject="s", prior=prior, wrote=9, live=live,
        drop_in_prior={} if entry is None else {"k": None}, drop_in_wrote={} if entry is None else {"k": entry},
    )  # fmt: skip
    return Record(
        step="intended", time=1.0, plan="d", tunable="t", lifetime=lifetime, boot_id=boot_id, subjects=(subject,)
    )


@pytest.mark.parametrize(
    ("first", "second", "baseline", "live"),
    [
        # On the same boot what we found first is what undo gives back.
        (record("b0", 1, Lifetime.BOOT), record("b0", 5, Lifetime.BOOT), 1, True),
        # What a boot took away is no longer ours.
        (record("b0", 1, Lifetime.BOOT), record("b1", 5, Lifetime.BOOT), 5, True),
        (record("b0", 1, Lifetime.BOOT), record("b1", 5, Lifetime.BOOT, live=False, entry="9"), 5, False),
        (record("b0", 1, Lifetime.BOOT), record("b0", 5, Lifetime.BOOT, live=False, entry="9"), 1, True),
        # What our file sets again at each boot is ours as long as the file is.
        (record("b0", 1, Lifetime.PERSISTENT, entry="9"), record("b1", 5, Lifetime.BOOT), 1, True),
        (
            record("b0", 1, Lifetime.PERSISTENT, live=False, entry="9"),
            record("b0", 5, Lifetime.BOOT, live=False),
            1,
            False,
        ),
    ],
)
def test_whose_value_the_baseline_is(first: Record, second: Record, baseline: object, live: bool) -> None:
    (setting,) = fold([first, second]).values()
    assert (setting.baseline, setting.live) == (baseline, live)
    persists = any(one.subjects[0].drop_in_wrote for one in (first, second))
    assert (setting.lifetime is Lifetime.PERSISTENT) is persists


def test_hardware_that_a_command_names_and_that_is_not_here_is_wrong_use(tmp_path: Path) -> None:
    host = tuner_of(HOSTS / "h200x8-vm", tmp_path, "generic").host
    tune = {"mig": {"gpus": {"GPU-nosuch": {"1g.18gb": 1}}}}
    lenient = session_of(host, tune)
    assert lenient.observe().report.findings
    strict = msgspec.structs.replace(lenient, is_strict=True)
    with pytest.raises(ProfileInvalid) as told:
        strict.observe()
    (fault,) = told.value.faults
    assert fault.startswith("spec.tune.mig.gpus.GPU-nosuch: ") and "GPU-" in fault
    assert str(told.value).startswith("profile case")
