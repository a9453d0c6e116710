"""A value that makes no sense to its tunable is that setting's trouble alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.values import Absent, Disruption, Observation, Unreadable, Value
from tuneagent.formats.spoken_values import seen_in_words
from tuneagent.host.files import Files
from tuneagent.tunables.registry import registry
from tuneagent.tunables.sysctl import TUNABLE


def test_what_cannot_be_judged_is_unknown_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d"])
    matches = type(TUNABLE).matches

    def confused(self: object, subject: str, observed: object, desired: object) -> bool:
        if subject == "key:vm.swappiness":
            raise TypeError("neither more nor less")
        return matches(TUNABLE, subject, observed, desired)  # type: ignore[arg-type]

    monkeypatch.setattr(type(TUNABLE), "matches", confused)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}})
    findings = {one.subject: one for one in session.observe().report.findings}
    assert findings["key:vm.swappiness"] == Finding(
        tunable="sysctl", subject="key:vm.swappiness", name="vm.swappiness", verdict=Verdict.UNKNOWN,
        severity=TUNABLE.about.severity, evidence="/proc/sys/vm/swappiness",
        advice="not judged: TypeError: neither more nor less",
    )  # fmt: skip
    assert findings["key:vm.stat_interval"].verdict is Verdict.DRIFTED
    assert session.observe().plan.changes[0].subject == "key:vm.stat_interval"


def test_a_finding_says_all_that_is_known_of_a_setting(tmp_path: Path) -> None:
    files = {"proc/sys/net/core/rmem_max": "212992\n", "etc/sysctl.d/50-site.conf": "net.core.rmem_max = 1048576\n"}
    write_tree(tmp_path, files, ["etc/sysctl.d"])
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"net.core.rmem_max": {"min": 4194304}}})
    (finding,) = session.observe().report.findings
    about = TUNABLE.describe("key:net.core.rmem_max")
    assert about.why and about.sources
    assert finding == Finding(
        tunable="sysctl", subject="key:net.core.rmem_max", name="net.core.rmem_max", verdict=Verdict.DRIFTED,
        severity=about.severity, desired=4194304, comparison="atLeast", observed=212992, persisted=1048576,
        next_boot=1048576, evidence="/proc/sys/net/core/rmem_max",
        disruption=Disruption.LIVE, why=about.why, advice=about.advice, sources=about.sources,
    )  # fmt: skip


def test_what_is_only_reported_has_no_cost(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/devices/system/cpu/online": "0\n", "sys/devices/system/cpu/present": "0-1\n"})
    session = session_of(tree(Files(str(tmp_path))), {"checks": {"cpusOnline": True}})
    (finding,) = session.observe().report.findings
    about = registry()["checks"].describe("check:cpusOnline")
    assert (finding.disruption, finding.why, finding.advice) == (None, about.why, about.advice)
    assert finding.verdict is Verdict.DRIFTED and about.advice


def test_a_value_without_a_wish_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    monkeypatch.setattr(type(TUNABLE), "desire", lambda self, facts, spec, readings: {})
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    (finding,) = session.observe().report.findings
    told = "read, but the wanted value cannot be determined on this host"
    assert (finding.verdict, finding.advice) == (Verdict.UNKNOWN, told)


@pytest.mark.parametrize(
    ("until", "verdict", "advice"),
    [
        (None, Verdict.ACCEPTED, "accepted: ticket 7"),
        (date(2027, 1, 15), Verdict.ACCEPTED, "accepted: ticket 7, until 2027-01-15"),
        (date(2027, 1, 14), Verdict.DRIFTED, "its acceptance ended on 2027-01-14"),
    ],
)
def test_a_waiver_holds_to_its_last_day(tmp_path: Path, until: date | None, verdict: Verdict, advice: str) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    accept = [{"tunable": "sysctl", "subject": "vm.swappiness", "reason": "ticket 7", "until": until}]
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}}, accept=accept)
    (finding,) = session.observe().report.findings
    assert (finding.verdict, finding.advice) == (verdict, advice)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Value({"ratio": 20}), "20 %"),
        (Value({"bytes": 1 << 30}), "1 GiB"),
        (Value(True), "on"),
        (Value(None), "-"),
        (Absent("no such file"), "no such file"),
        (Unreadable("EIO"), "not read: EIO"),
        (None, "-"),
    ],
)
def test_what_was_read_in_words(seen: Observation | None, told: str) -> None:
    assert seen_in_words(seen) == told


def test_what_the_next_boot_sets_is_said_as_people_write_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/dirty_ratio": "10\n", "proc/sys/vm/dirty_bytes": "0\n"}, ["etc/sysctl.d"])
    host = tree(Files(str(tmp_path)))
    session_of(host, {"dirtyPages": {"ratio": 40}}).apply()
    (tmp_path / "proc/sys/vm/dirty_ratio").write_text("10\n")
    (finding,) = session_of(host, {"dirtyPages": {"ratio": 10}}).observe().report.findings
    assert finding.advice == "correct now, but lost at the next boot: the next boot sets 40 %"


@pytest.mark.parametrize(
    ("tune", "live"),
    [
        ({"sysctl": {"vm.swappiness": 10}}, {"proc/sys/vm/swappiness": "60\n"}),
        ({"ksm": {"run": True}}, {"sys/kernel/mm/ksm/run": "0\n"}),
    ],
)
def test_our_own_file_on_an_etc_that_a_reboot_drops_keeps_nothing(
    tmp_path: Path, tune: dict[str, object], live: dict[str, str]
) -> None:
    write_tree(tmp_path, live, ["etc/sysctl.d", "etc/tmpfiles.d"])
    host = tree(Files(str(tmp_path)))
    session_of(host, tune).apply()
    assert {one.verdict for one in session_of(host, tune).observe().report.findings} == {Verdict.CONVERGED}
    overlay = "tmpfs /run tmpfs rw 0 0\noverlay /etc overlay rw,lowerdir=/l,upperdir=/run/up,workdir=/run/w 0 0\n"
    write_tree(tmp_path, {"proc/1/mounts": overlay})
    (finding,) = session_of(host, tune).observe().report.findings
    assert finding.verdict is Verdict.NOT_PERSISTED
    assert "upper folder is on a tmpfs, lost at reboot" in finding.advice and "sets" not in finding.advice


def test_what_waits_for_another_is_pending_until_it_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the preceding tunable must make first is no fault of this setting, and is not written yet."""
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "10\n"}, ["etc/sysctl.d"])
    monkeypatch.setattr(type(TUNABLE), "waits", lambda self, facts, subject: "set once MIG is as the profile wants it")
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}})
    found = session.observe()
    verdicts = {one.subject: (one.verdict, one.advice) for one in found.report.findings}
    assert verdicts["key:vm.swappiness"] == (Verdict.PENDING, "set once MIG is as the profile wants it")
    assert verdicts["key:vm.stat_interval"][0] is Verdict.NOT_PERSISTED
    refusals = {one.finding.subject: one.refusal for one in found.assessments}
    assert refusals == {"key:vm.swappiness": "set once MIG is as the profile wants it", "key:vm.stat_interval": None}


def test_a_kernel_line_that_lacks_the_argument_says_so(tmp_path: Path) -> None:
    files = {
        "proc/cmdline": "root=/dev/sda1 iommu=pt\n",
        "etc/default/grub": "",
        "boot/grub/grub.cfg": "menuentry x {\n linux /v root=/dev/sda1\n}\n",
    }
    write_tree(tmp_path, files, ["etc/default/grub.d"])
    (finding,) = session_of(tree(Files(str(tmp_path))), {"kernelArguments": {"iommu": "pt"}}).observe().report.findings
    assert finding.verdict is Verdict.NOT_PERSISTED
    assert finding.advice.startswith("correct now, but lost at the next boot: the next boot does not set it")


@pytest.mark.parametrize(
    "other", [{"tunable": "smt", "subject": "vm.swappiness"}, {"tunable": "sysctl", "subject": "vm.stat_interval"}]
)
def test_a_waiver_of_another_setting_waives_nothing_here(tmp_path: Path, other: dict[str, str]) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    accept = [{**other, "reason": "ticket 7"}]
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}}, accept=accept)
    assert [one.verdict for one in session.observe().report.findings] == [Verdict.DRIFTED]


def test_what_is_in_use_is_planned_for_an_idle_host_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    monkeypatch.setattr(type(TUNABLE), "busy", lambda self, facts, subject, wanted: "in use by process 4711")
    found = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}}).observe()
    assert [one.finding.advice for one in found.assessments] == ["cannot be changed now: in use by process 4711"]
    assert [one.subject for one in found.plan.changes] == []
    assert [one.subject for one in found.plan_when_idle.changes] == ["key:vm.swappiness"]


def test_what_cannot_be_listed_now_is_not_taken_for_dropped(tmp_path: Path) -> None:
    pools = [f"sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages" for node in (0, 1)]
    files = {**dict.fromkeys(pools, "0\n"), "sys/devices/system/cpu/online": "0-1\n"}
    files |= {f"sys/devices/system/node/node{node}/cpulist": f"{node}\n" for node in (0, 1)}
    write_tree(tmp_path, files)
    host = tree(Files(str(tmp_path)))
    session = session_of(host, {"hugepages": {"pages": [{"size": "2Mi", "perNumaNode": 8}]}})
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    node = tmp_path / "sys/devices/system/node"
    node.rename(tmp_path / "away")
    found = session.observe()
    assert [one.finding.subject for one in found.assessments] == ["host"]
    assert found.plan.changes == ()
    # A profile that does not name them at all takes them back.
    (tmp_path / "away").rename(node)
    assert [one.tunable for one in session_of(host, {}).observe().plan.changes] == ["hugepages", "hugepages"]
