"""One pass of the daemon: when it repairs, how far, what it says before and after, and when it comes again."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import FailingFiles, session_of, tree, write_tree
from tuneagent.contracts.journal import SubjectRecord
from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change, Plan, Prior
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.values import Disruption, Lifetime, Severity
from tuneagent.engine.applied_settings import AppliedSetting
from tuneagent.engine.host_tuner import HOLD_PATH, Confirm, HostTuner, repeats
from tuneagent.engine.plan import BASELINE
from tuneagent.errors import ReadFailed
from tuneagent.host.files import Files
from tuneagent.node import passes
from tuneagent.node.metrics import Metrics
from tuneagent.node.passes import BACKOFF_LIMIT_S, live_only, log_failure, next_wait_s, open_findings, run_pass

FILES = {
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/vm/stat_interval": "1\n",
    "proc/sys/kernel/random/boot_id": "b0\n",
    "sys/devices/system/cpu/smt/control": "on\n",
}
TUNE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}, "smt": {"enabled": False}}


class Counting(Metrics):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[str] = []
        self.summaries: list[dict[str, int]] = []

    def changed(self, result: str) -> None:
        self.results.append(result)

    def passed(self, report: Any, ended: float, duration_s: float) -> None:
        assert 0 <= duration_s < 60 and ended == 1_800_000_000.0
        self.summaries.append(report.summary)


@pytest.fixture
def tuner(tmp_path: Path) -> HostTuner:
    write_tree(tmp_path, FILES, ["etc/sysctl.d", "etc/tmpfiles.d", "etc/tuneagent"])
    return repairing(session_of(tree(Files(str(tmp_path))), TUNE))


def repairing(tuner: HostTuner, drift: str = "repair") -> HostTuner:
    spec = msgspec.structs.replace(tuner.profile.spec, drift=drift)
    return msgspec.structs.replace(tuner, profile=msgspec.structs.replace(tuner.profile, spec=spec))


def swappiness(tuner: HostTuner) -> str:
    return tuner.host.files.read("proc/sys/vm/swappiness")


def test_it_repairs_what_is_live_and_says_so_before_and_after(
    tuner: HostTuner, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Counting()
    with caplog.at_level(logging.INFO, logger="tuneagent"):
        done = run_pass(tuner, threading.Event(), metrics)
    assert swappiness(tuner) == "10" and tuner.host.files.read("sys/devices/system/cpu/smt/control") == "on"
    assert sorted(metrics.results) == ["verified", "verified", "withheld"]
    assert metrics.summaries == [done.after.report.summary] and metrics.summaries[0]["drifted"] == 1
    assert done.before.report.summary["drifted"] == 3
    before, *changes = [(record.getMessage(), vars(record)["fields"]) for record in caplog.records]
    assert before == (
        "about to write",
        {
            "count": 2,
            "changes": [
                {
                    "tunable": "sysctl", "subject": f"key:vm.{name}", "found": found, "wanted": 10,
                    "keptBy": "/etc/sysctl.d/99-zz-tuneagent.conf",
                }
                for name, found in (("stat_interval", 1), ("swappiness", 60))
            ],
        },
    )  # fmt: skip
    told = {fields["subject"]: fields for message, fields in changes if message == "change"}
    assert told["key:vm.swappiness"] == {
        "tunable": "sysctl", "subject": "key:vm.swappiness", "result": "verified", "reason": "", "was": 60, "wanted": 10,
    }  # fmt: skip


def test_a_failed_change_is_a_warning(tuner: HostTuner, caplog: pytest.LogCaptureFixture) -> None:
    files = FailingFiles(tuner.host.files.root, {"proc/sys/vm/swappiness": "EPERM"})
    failing = msgspec.structs.replace(tuner, host=msgspec.structs.replace(tuner.host, files=files))
    with caplog.at_level(logging.INFO, logger="tuneagent"):
        done = run_pass(failing, threading.Event(), Counting())
    levels = {vars(one)["fields"]["subject"]: one.levelname for one in caplog.records if one.getMessage() == "change"}
    results = {one.subject: one.result for one in done.outcomes}
    assert results["key:vm.swappiness"] == "failed" and levels["key:vm.swappiness"] == "WARNING"
    assert {level for subject, level in levels.items() if results[subject] != "failed"} <= {"INFO"}


@pytest.mark.parametrize("drift", ["report", "freeze", None])
def test_without_the_word_it_writes_nothing(tuner: HostTuner, drift: str | None) -> None:
    done = run_pass(repairing(tuner, drift), threading.Event(), Counting())  # type: ignore[arg-type]
    assert swappiness(tuner) == "60" and done.applied is None and done.after is done.before and done.outcomes == ()


def test_a_hold_a_confirmation_and_a_pause_stop_it(tuner: HostTuner, tmp_path: Path) -> None:
    (tmp_path / HOLD_PATH).write_text("")
    assert run_pass(tuner, threading.Event(), Counting()).applied is None
    (tmp_path / HOLD_PATH).unlink()
    assert run_pass(tuner, threading.Event(), Counting(), may_write=False).applied is None
    assert swappiness(tuner) == "60"
    tuner.apply(only={"sysctl"}, confirm=Confirm(60, lambda _: None))
    (tmp_path / "proc/sys/vm/swappiness").write_text("60\n")
    assert run_pass(tuner, threading.Event(), Counting()).applied is None


def test_nothing_to_do_is_said_by_silence(tuner: HostTuner, caplog: pytest.LogCaptureFixture) -> None:
    run_pass(tuner, threading.Event(), Counting())
    caplog.clear()
    metrics = Counting()
    with caplog.at_level(logging.INFO, logger="tuneagent"):
        done = run_pass(tuner, threading.Event(), metrics)
    assert done.applied is None and not caplog.records and metrics.results == []
    assert metrics.summaries == [done.before.report.summary]


def test_a_limit_is_asked_with_what_was_found(tuner: HostTuner) -> None:
    asked: list[int] = []

    def limit(found: Any) -> Disruption:
        asked.append(len(found.plan.changes))
        return Disruption.KUBELET

    run_pass(tuner, threading.Event(), Counting(), limit)
    assert asked == [3] and tuner.host.files.read("sys/devices/system/cpu/smt/control") == "off"


def test_without_leave_only_gpu_settings_come_back(tuner: HostTuner, tmp_path: Path) -> None:
    tuner.apply(limit=Disruption.KUBELET, only={"smt"})
    (tmp_path / "sys/devices/system/cpu/smt/control").write_text("on\n")
    run_pass(tuner, threading.Event(), Counting())
    assert tuner.host.files.read("sys/devices/system/cpu/smt/control") == "on"
    run_pass(tuner, threading.Event(), Counting(), again=True)
    assert tuner.host.files.read("sys/devices/system/cpu/smt/control") == "on"


def test_what_comes_back_is_decided_from_what_is_held(tuner: HostTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(passes, "repeats", lambda plan, applied: asked.append((plan, dict(applied))) or set())
    tuner.apply(limit=Disruption.KUBELET, only={"smt"})
    done = run_pass(tuner, threading.Event(), Counting(), again=True)
    assert asked == [(done.before.plan, done.before.applied)] and done.before.applied


GPU = Change(
    tunable="mig", subject="gpu:GPU-1", prior=Prior(live={}), desired={"enabled": True}, disruption=Disruption.GPU,
    persistence="driver",
)  # fmt: skip
BEFORE = AppliedSetting(
    tunable="mig", subject="gpu:GPU-1", step="done", wrote={"enabled": True}, baseline=None, live=True, lifetime=Lifetime.DRIVER,
    boot_id="b0", kernel="6.1", driver="580", revision="r", plan="d", profile="p", drop_in_baseline={}, drop_in_wrote={}, last=SubjectRecord(subject="gpu:GPU-1"), time=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "before", "comes"),
    [
        ({}, {}, True),
        ({}, {"step": "verified"}, True),
        ({}, {"step": "intended"}, False),
        ({}, {"wrote": {"enabled": False}}, False),
        ({"disruption": Disruption.REBOOT}, {}, False),
        ({"persistence": BASELINE}, {}, False),
        ({"subject": "gpu:GPU-2"}, {}, False),
    ],
)
def test_what_comes_back_is_exactly_what_was_given(change: dict[str, Any], before: dict[str, Any], comes: bool) -> None:
    plan = Plan(digest="d", changes=(msgspec.structs.replace(GPU, **change),), refused=())
    known = {("mig", "gpu:GPU-1"): msgspec.structs.replace(BEFORE, **before)}
    assert repeats(plan, known) == ({("mig", "gpu:GPU-1")} if comes else set())


def test_a_stop_ends_it_before_the_next_tunable(tuner: HostTuner) -> None:
    stop = threading.Event()
    stop.set()
    done = run_pass(tuner, stop, Counting())
    assert {one.result for one in done.outcomes if one.tunable == "sysctl"} == {"skipped"} and swappiness(tuner) == "60"


def test_only_so_many_changes_are_named(tuner: HostTuner, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(passes, "DUE_SHOWN", 1)
    with caplog.at_level(logging.INFO, logger="tuneagent"):
        run_pass(tuner, threading.Event(), Counting())
    fields = vars(caplog.records[0])["fields"]
    assert fields["count"] == 2 and len(fields["changes"]) == 1


def test_live_only_is_live() -> None:
    assert live_only(None) is Disruption.LIVE  # type: ignore[arg-type]


def test_a_change_without_a_finding_says_what_it_knows() -> None:
    outcome = Outcome(tunable="t", subject="s", result="verified", reason="r")
    assert passes._change_fields(outcome, None) == {
        "tunable": "t", "subject": "s", "result": "verified", "reason": "r", "was": None, "wanted": None,
    }  # fmt: skip
    change = Change(
        tunable="t", subject="s", prior=Prior(live=1), desired=2, disruption=Disruption.LIVE, persistence="boot"
    )
    assert passes._due_fields(change) == {"tunable": "t", "subject": "s", "found": 1, "wanted": 2, "keptBy": "boot"}


def test_failures_say_where_only_if_they_are_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="tuneagent"):
        log_failure(ReadFailed("/x: EACCES"))
        log_failure(KeyError("k"))
    ours, other = caplog.records
    assert ours.getMessage() == "pass failed" and ours.levelname == "ERROR"
    assert vars(ours)["fields"] == {"error": "/x: EACCES"} and ours.exc_info is None
    assert vars(other)["fields"] == {"error": "KeyError: 'k'"} and other.exc_info is not None


def test_open_findings_are_worst_first() -> None:
    def one(subject: str, verdict: Verdict, severity: Severity, tunable: str = "b") -> Finding:
        return Finding(tunable=tunable, subject=subject, verdict=verdict, severity=severity)

    found = [
        one("1", Verdict.DRIFTED, Severity.LOW),
        one("2", Verdict.CONVERGED, Severity.CRITICAL),
        one("4", Verdict.UNKNOWN, Severity.HIGH),
        one("3", Verdict.ACCEPTED, Severity.HIGH),
        one("9", Verdict.PENDING, Severity.HIGH, "a"),
        one("5", Verdict.UNSUPPORTED, Severity.CRITICAL),
    ]
    report = msgspec.structs.replace(_empty(), findings=tuple(found))
    assert [finding.subject for finding in open_findings(report)] == ["9", "3", "4", "1"]


def _empty() -> Any:
    from tuneagent.contracts.report import HostName, ProfileName, Report

    return Report(tool={}, host=HostName(), profile=ProfileName("p", "r"), summary={}, findings=())


@pytest.mark.parametrize(("spread", "factor"), [(-0.1, 0.9), (0.0, 1.0), (0.1, 1.1)])
def test_waits(monkeypatch: pytest.MonkeyPatch, spread: float, factor: float) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return spread

    monkeypatch.setattr(passes.random, "uniform", uniform)
    assert next_wait_s(60, 0) == pytest.approx(60 * factor)
    assert next_wait_s(60, 1) == pytest.approx(120 * factor)
    assert next_wait_s(60, 2) == pytest.approx(240 * factor)
    assert next_wait_s(20, 3) == pytest.approx(160 * factor)
    assert next_wait_s(60, 9) == pytest.approx(BACKOFF_LIMIT_S * factor)
    # An interval longer than the limit is shortened by failures alone.
    assert next_wait_s(900, 0) == pytest.approx(900 * factor)
    assert next_wait_s(900, 1) == pytest.approx(BACKOFF_LIMIT_S * factor)
    # A deadline to come shortens it, one that has passed does not.
    assert next_wait_s(60, 0, 5.0) == 5.0 and next_wait_s(60, 0, 900.0) == pytest.approx(60 * factor)
    assert next_wait_s(60, 0, 0.001) == 0.05
    assert next_wait_s(60, 0, 0.0) == pytest.approx(60 * factor) and next_wait_s(60, 0, -3.0) == pytest.approx(
        60 * factor
    )
    assert set(asked) == {(-0.1, 0.1)}


@pytest.mark.parametrize("again", [True, False])
def test_a_pass_applies_over_another_profile_and_again_only_where_it_may(
    tuner: HostTuner, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    asked: list[dict[str, Any]] = []
    apply = HostTuner.apply

    def noted(self: HostTuner, **more: Any) -> Any:
        asked.append(more)
        return apply(self, **more)

    monkeypatch.setattr(HostTuner, "apply", noted)
    monkeypatch.setattr(passes, "repeats", lambda plan, applied: asked.append({"repeats": bool(applied)}) or set())
    run_pass(repairing(tuner), threading.Event(), Counting(), again=again)
    told = asked[-1]
    assert (told["again"], told["over_other"]) == (again, True) and told["found"] is not None
    assert ({"repeats": False} in asked) is again
