"""The audit as people see it: kept screens of real machines, and what holds of every screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from captured_hosts import HOSTS
from record_screens import PROFILES, SCREENS, WIDTHS, screens_of, session_screens
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Finding, GpuName, HostName, ProfileName, Report, Verdict, summarize
from tuneagent.contracts.values import Disruption, Severity
from tuneagent.engine.names import short
from tuneagent.formats.spoken_values import size
from tuneagent.host.files import Files
from tuneagent.report.audit_lines import fix_lines, report_lines, report_plain
from tuneagent.report.audit_screen import gpus_of, report_text
from tuneagent.report.findings import Invocation, source_of
from tuneagent.report.lines import Row, rows_text
from tuneagent.report.values import spoken

MACHINES = [(place, profile) for place in sorted(HOSTS.iterdir()) for profile in PROFILES]


@pytest.mark.parametrize(("place", "profile"), MACHINES, ids=[f"{one.name}-{two}" for one, two in MACHINES])
def test_screens_of_real_machines(place: Path, profile: str) -> None:
    report, made = screens_of(place, profile)
    for end, text in made.items():
        assert text + "\n" == (SCREENS / f"{place.name}.{profile}.{end}").read_text(), end
    told = [one for one in report.findings if one.is_open]
    for width in WIDTHS:
        lines = made[f"{width}.txt"].splitlines()
        # Nothing is wider than the terminal but what would have to be cut.
        assert [line for line in lines if len(line) > width and len(line.split()) > 1 and "tuneagent" not in line] == []
        words = set(made[f"{width}.txt"].replace(",", " ").split())
        folded = re.findall(r"(\S+) and \d+ more", made[f"{width}.txt"])
        for one in told:
            assert short(one.name) in words or any(name.partition("/")[0] in (one.tunable, name) for name in folded), (
                one.name
            )
    for one in told:
        assert sum(f" {one.name} " in f"{line} " for line in made["pipe.txt"].splitlines()) == 1, one.name
        (row,) = [line for line in made["plain.tsv"].splitlines() if line.split("\t")[2:4] == [one.tunable, one.name]]
        assert len(row.split("\t")) == 7


def test_a_first_session_is_as_the_page_shows_it() -> None:
    """Each command of docs/getting-started-host.md, on the tree of a real machine: everything comes back."""
    for name, text in session_screens().items():
        assert text + "\n" == (SCREENS / name).read_text(), name
    assert "undone  vm.swappiness                60" in session_screens()["session.undo.txt"]


def finding(name: str, **more: object) -> Finding:
    given = {
        "tunable": "sysctl", "subject": f"key:{name}", "name": name, "verdict": Verdict.DRIFTED,
        "severity": Severity.LOW, "observed": 1, "desired": 2, "disruption": Disruption.LIVE, "why": "it matters",
    } | more  # fmt: skip
    return Finding(**given)  # type: ignore[arg-type]


def report(*findings: Finding, **host: object) -> Report:
    return Report(
        tool={"name": "tuneagent", "version": "1"},
        host=HostName(**{"name": "n1", **host}),  # type: ignore[arg-type]
        profile=ProfileName("p", "abc"),
        summary=summarize(findings),
        findings=findings,
    )


@pytest.mark.parametrize(
    ("findings", "answer"),
    [
        ([], "NOTHING CHECKED: the profile names nothing that this host has."),
        (
            [finding("a", verdict=Verdict.CONVERGED)],
            "OK: every setting that applies here is as the profile wants it.",
        ),
        ([finding("a")], "NOT OK: 1 setting is wrong (1 low)."),
        (
            [finding("a"), finding("b", severity=Severity.HIGH), finding("c", severity=Severity.HIGH)],
            "NOT OK: 3 settings are wrong (2 high, 1 low).",
        ),
        (
            [finding("a", verdict=Verdict.UNKNOWN, severity=Severity.CRITICAL)],
            "NOT VERIFIED: 1 setting is not verified (1 critical).",
        ),
        (
            [finding("a", verdict=Verdict.NOT_PERSISTED)],
            "OK UNTIL THE NEXT BOOT: 1 setting is correct now but lost at the next boot (1 low).",
        ),
        (
            [finding("a", verdict=Verdict.ACCEPTED)],
            "OK: every setting that applies here is as the profile wants it.",
        ),
    ],
)
def test_the_answer_comes_first(findings: list[Finding], answer: str) -> None:
    lines = report_text(report(*findings), columns=200).splitlines()
    assert lines[3] == answer
    assert report_lines(report(*findings)).splitlines()[2] == answer


def test_what_weighs_most_is_first_and_an_unknown_of_weight_is_above_a_light_drift() -> None:
    text = report_text(
        report(
            finding("light"),
            finding("heavy", severity=Severity.HIGH),
            finding("blind", verdict=Verdict.UNKNOWN, severity=Severity.CRITICAL, advice="not read: /x: EIO"),
            finding("middling", severity=Severity.MEDIUM),
            finding("lost", verdict=Verdict.NOT_PERSISTED, severity=Severity.CRITICAL),
        ),
        columns=100,
    )
    order = ["heavy", "blind", "middling", "light", "lost"]
    assert re.findall(r"^(?:critical|high|medium|low)\??  *(\w+)", text, re.MULTILINE) == order
    assert "critical? blind" in text
    assert "not verified: EIO" in text


def test_one_reason_is_told_once_and_many_that_are_alike_are_counted() -> None:
    text = report_text(
        report(*(finding(f"cpu{number}") for number in range(7)), finding("other", observed=5)), columns=100
    )
    assert text.count("it matters") == 1
    assert "cpu0 and 6 more" in text and "cpu1" not in text and "other" in text


def test_what_to_type_next_names_the_same_host_and_profile() -> None:
    called = Invocation(" --root /srv/x", " -p training")
    text = report_text(report(finding("vm.x")), columns=120, called=called)
    assert "  tuneagent plan --root /srv/x -p training\n" in text and "tuneagent apply --root /srv/x" in text
    assert "tuneagent why --root /srv/x -p training vm.x\n" in text
    assert "`tuneagent undo --root /srv/x` reverts it" in text
    # Of a capture nothing can be changed: the command is for the host itself.
    called = Invocation(" --capture c.tar.gz", " -p training", is_writable=False)
    text = report_text(report(finding("vm.x"), source="capture"), columns=120, called=called)
    assert "  sudo tuneagent apply -p training\n      on n1 itself: " in text
    assert "  sudo tuneagent apply\n" in report_text(
        report(finding("vm.x")), columns=120, called=Invocation(sudo="sudo ")
    )
    assert "tuneagent apply" not in report_text(
        report(finding("vm.x")), columns=120, called=Invocation(is_writable=False)
    )
    assert "NEXT" not in report_text(report(), columns=120)


def test_a_fix_that_costs_something_says_what() -> None:
    text = report_text(
        report(finding("mig", disruption=Disruption.GPU)), columns=120, called=Invocation(profile=" -p p")
    )
    assert "fix: tuneagent apply -p p --max-disruption gpu   (needs idle GPUs)".replace("   ", " ") in " ".join(
        text.split()
    )
    text = report_text(report(finding("check", disruption=None, advice="load the module", observed=False)), columns=120)
    assert "fix: load the module" in text and "no, wanted 2" in text


def test_the_machine_is_named() -> None:
    two = (GpuName(0, "GPU-1", "NVIDIA H100"), GpuName(1, "GPU-2", "NVIDIA H100"))
    assert gpus_of(HostName(gpus=two, driver="580.1")) == "2 x NVIDIA H100, driver 580.1"
    assert gpus_of(HostName(gpus=(), no_gpus="no driver")) == "no NVIDIA GPU"
    assert gpus_of(HostName(no_gpus="NVML: timeout")) == "GPUs not known (NVML: timeout)"
    assert gpus_of(HostName()) == ""
    lines = report_text(report(cpus=16, memory_bytes=16 << 30, kernel="6.8", source="tree"), columns=100).splitlines()
    assert lines[:2] == [
        "n1: 16 CPUs, 16 GiB memory, kernel 6.8",
        "from the tree: a copy of the host's files, not the running host",
    ]
    of = HostName(source="capture", taken=1_800_000_000.0)
    assert source_of(of, Invocation(" --capture 'a b' --state-dir /x")).startswith(
        "from the capture 'a b' of 2027-01-15"
    )


def test_an_audit_asks_what_the_machine_is_made_of(tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/meminfo": "MemTotal:       16384 kB\n",
                          "sys/devices/system/cpu/online": "0-3\n"})  # fmt: skip
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    host = session.observe(with_machine=True).report.host
    assert (host.cpus, host.memory_bytes, host.gpus) == (4, 16 << 20, None)
    assert host.no_gpus == "NVML cannot be asked on a tree"
    assert session.observe().report.host.cpus is None


def test_control_characters_of_a_host_reach_no_screen() -> None:
    evil = finding("a\x1b[2Jb", observed="x\x07y", advice="\x1b]0;t\x07", severity=Severity.HIGH)
    for text in (
        report_text(report(evil, name="h\x1bq"), columns=80),
        report_lines(report(evil)),
        report_plain(report(evil)),
    ):
        assert "\x1b" not in text and "\x07" not in text


@pytest.mark.parametrize(
    ("value", "question", "words"),
    [
        (None, False, "-"), (True, False, "on"), (False, False, "off"), (True, True, "yes"), (False, True, "no"),
        (5, False, "5"), (0.5, False, "0.5"), ("madvise", False, "madvise"), ([], False, "none"),
        ([1, 2], False, "1, 2"), ([True, True], True, "yes (2 times)"), (list(range(9)), False, "0, 1, 2, 3, 4, 5 and 3 more"),
        ({"bytes": 17179869184}, False, "16 GiB"), ({"bytes": 1536}, False, "1.5 KiB"), ({"ratio": 20}, False, "20 %"),
        ({"sizeKiB": 2048}, False, "2 MiB"), ({"active": False, "enabled": True}, False, "not active, enabled"),
        ({"pci": 8, "nvml": 7}, False, "pci 8, nvml 7"), ({"a": "on", "b": "on", "c": "on"}, False, "on (3 of them)"),
        ({}, False, "none"), ("x" * 80, False, "x" * 57 + "..."),
    ],
)  # fmt: skip
def test_values_are_written_as_people_write_them(value: object, question: bool, words: str) -> None:
    assert spoken(value, question=question) == words


def test_sizes() -> None:
    assert [size(0), size(1023), size(1024), size(1 << 40), size(1 << 50), size(3, "MiB")] == [
        "0 bytes", "1023 bytes", "1 KiB", "1 TiB", "1024 TiB", "3 MiB",
    ]  # fmt: skip


def test_names_are_never_cut_and_what_does_not_fit_stands_below() -> None:
    long = "net.ipv4.neigh.default.gc_thresh1.and.some.more"
    rows = [Row("low", long, "1 -> 2", "a remark that is long"), Row("high", "b", "3", "c")]
    assert rows_text(rows, 200) == [
        f"low   {long}  1 -> 2  a remark that is long",
        f"high  {'b'.ljust(len(long))}  3       c",
    ]
    assert rows_text(rows, 64) == [f"low   {long}  1 -> 2", "        a remark that is long", "high  b  3       c"]
    assert rows_text(rows, 40) == [
        f"low   {long}",
        "        1 -> 2",
        "        a remark that is long",
        "high  b  3       c",
    ]


def test_what_a_host_has_said_is_no_command() -> None:
    evil = "x\ntouch /tmp/pwned; \x1b[2J"
    findings = [
        finding("a", verdict=Verdict.UNKNOWN, advice=f"not read: {evil}"),
        finding("b\nrm", verdict=Verdict.CONFLICT, advice=evil),
        finding("c", disruption=None, advice=evil),
        finding("d;rm -rf /"),
    ]
    lines = fix_lines(report(*findings), Invocation()).split("\n")
    assert len(lines) == 4 and all(line.startswith(("# ", "tuneagent apply --yes --only ")) for line in lines)
    assert "tuneagent apply --yes --only 'd;rm -rf /'" in lines and not any("\x1b" in line for line in lines)
