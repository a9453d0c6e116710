"""What commands take and ask: names of settings, the host after the command, the terminal's answer, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner, Result
from support import write_tree
from tuneagent.commands import main, write_commands
from tuneagent.commands.main import cli
from tuneagent.contracts.values import Severity
from tuneagent.errors import WriteFailed
from tuneagent.host.commands import run_module

HEAD = "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: t}\n"


def call(*argv: str) -> Result:
    return CliRunner().invoke(cli, list(argv))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n", "sys/kernel/mm/ksm/run": "0\n"}
    write_tree(tmp_path / "tree", files, ["etc/sysctl.d", "etc/tmpfiles.d"])
    return tmp_path / "tree"


def profile(tmp_path: Path, tune: str) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}spec:\n  tune: {tune}\n")
    return str(path)


def test_the_host_may_be_named_after_the_command(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    before = call("--root", str(root), "plan", "-f", file)
    assert call("plan", "--root", str(root), "-f", file).output == before.output
    assert call("status", "--root", str(root)).exit_code == 0
    for argv in (("--root", "/", "audit", "--capture", "x"), ("audit", "--root", "/", "--capture", "x")):
        refused = call(*argv)
        assert refused.exit_code == 2 and "cannot be used together" in refused.stderr


def test_only_takes_one_setting(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10, vm.stat_interval: 10}, ksm: {run: false}}")
    shown = call("--root", str(root), "audit", "-f", file, "--only", "vm.swappiness", "-o", "json")
    assert [one["name"] for one in json.loads(shown.stdout)["findings"]] == ["vm.swappiness"]
    planned = call("--root", str(root), "plan", "-f", file, "--only", "key:vm.swappiness", "-o", "json")
    assert [one["subject"] for one in json.loads(planned.stdout)["changes"]] == ["key:vm.swappiness"]
    applied = call("--root", str(root), "apply", "-f", file, "--yes", "--only", "sysctl/vm.swappiness", "-o", "json")
    assert [one["subject"] for one in json.loads(applied.stdout)["results"]] == ["key:vm.swappiness"]
    assert (root / "proc/sys/vm/swappiness").read_text() == "10\n"
    wrong = call("--root", str(root), "apply", "-f", file, "--yes", "--only", "vm.swapiness")
    assert wrong.exit_code == 2 and "did you mean 'vm.swappiness'?" in wrong.stderr
    for verb in (["audit"], ["plan"], ["apply", "--yes"]):
        nothing = call("--root", str(root), *verb, "-f", file, "--only", "smt")
        assert nothing.exit_code == 2 and "--only smt: profile t does not name this tunable" in nothing.stderr
    undone = call("--root", str(root), "undo", "--only", "vm.swappiness")
    assert undone.output == "undone  vm.swappiness  60\n"
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_undo_where_nothing_was_written_makes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    assert call("--root", str(root), "undo").output == "nothing to undo\n"
    assert sorted(root.rglob("*")) == before


def test_fail_on_tells_what_is_wrong_now_from_what_the_next_boot_loses(root: Path, tmp_path: Path) -> None:
    (root / "proc/sys/kernel").mkdir(exist_ok=True)
    (root / "proc/sys/kernel/numa_balancing").write_text("0\n")
    lost = profile(tmp_path, "{sysctl: {kernel.numa_balancing: 0}}")

    def code(file: str, what: str) -> int:
        return call("--root", str(root), "audit", "-f", file, "--fail-on", what).exit_code

    assert call("--root", str(root), "audit", "-f", lost).exit_code == 3
    assert [code(lost, what) for what in ("high", "high,not-persisted", "critical,not-persisted", "not-persisted")] == [
        0,
        3,
        0,
        3,
    ]
    wrong = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    assert [code(wrong, what) for what in ("low", "medium", "not-persisted")] == [3, 0, 3]
    for what in ("bad", "low,high", "low,", ""):
        assert code(wrong, what) == 2


def test_a_terminal_is_asked_before_anything_is_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    argv = ("--root", str(root), "apply", "-f", file)
    assert "nothing was written; use --yes to write" in call(*argv).stderr
    monkeypatch.setattr(write_commands, "can_ask", lambda: True)
    refused = CliRunner().invoke(cli, argv, input="n\n")
    assert refused.exit_code == 1 and "Make this change now?" in refused.stderr
    assert "tuneagent: nothing was written" in refused.stderr
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
    moved = CliRunner().invoke(cli, (*argv, "--digest", "sha256:other"), input="y\n")
    assert moved.exit_code == 1 and "review the new plan" in moved.stderr
    agreed = CliRunner().invoke(cli, argv, input="y\n")
    assert agreed.exit_code == 0 and (root / "proc/sys/vm/swappiness").read_text() == "10\n"
    # With nothing to change there is nothing to ask.
    again = CliRunner().invoke(cli, argv)
    assert (again.exit_code, again.stderr) == (0, "") and "nothing to change" in again.stdout
    # Ctrl-C at the question ends it as anywhere else.
    (root / "proc/sys/vm/swappiness").write_text("60\n")
    gone = CliRunner().invoke(cli, argv, input="")
    assert gone.exit_code == 130 and "tuneagent: interrupted; " in gone.stderr and "Aborted" not in gone.output


def test_fix_commands_are_for_a_shell(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}, checks: {deviceLinks: true}}")
    printed = call("--root", str(root), "audit", "-f", file, "--fix-commands").output.splitlines()
    assert f"tuneagent apply --root {root} -f {file} --yes --only vm.swappiness" in printed
    assert all(line.startswith(("tuneagent apply ", "# ")) for line in printed)


@pytest.mark.parametrize(
    ("name", "leads_to"),
    [
        ("deviceLinks", "deviceLinks"), ("check:deviceLinks", "deviceLinks"), ("checks/deviceLinks", "deviceLinks"),
        ("gpuHealth/GPU-9c2b1d34/noThrottle", "noThrottle"), ("gpu:GPU-9c2b1d34/noThrottle", "noThrottle"),
        ("key:vm.swappiness", "vm.swappiness"), ("cpuGovernor/cpu:0", "cpuGovernor"), ("hugepages", "hugepages"),
    ],
)  # fmt: skip
def test_explain_takes_every_printed_name(name: str, leads_to: str) -> None:
    assert call("explain", name).output.splitlines()[0] == leads_to


def test_the_journal_has_a_line_for_each_change_of_an_apply(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10, vm.stat_interval: 10}}")
    call("--root", str(root), "apply", "-f", file, "--yes")
    call("--root", str(root), "undo", "--only", "vm.swappiness")
    call("--root", str(root), "apply", "-f", file, "--yes")
    blocks = call("--root", str(root), "journal").output.split("\n\n")
    assert len(blocks) == 2
    for block in blocks:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  profile t [0-9a-f]{10}, plan sha256:", block)
    kept, undone = (" ".join(line.split()) for line in blocks[0].splitlines()[1:])
    assert undone.startswith("undone vm.swappiness 60 -> 10, and at boot")
    assert kept == "verified vm.stat_interval 1 -> 10, and at boot"
    assert [" ".join(line.split()) for line in blocks[1].splitlines()[1:]] == [
        "verified vm.swappiness 60 -> 10, and at boot"
    ]


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        main.fail(WriteFailed("/var/lib/tuneagent/lock: EACCES Permission denied"))
    assert capsys.readouterr().err.splitlines()[-1] == "tuneagent: you are not root; run it with sudo"


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        (["audit", "-p"], "tr", ["training"]),
        (["daemon", "--profile"], "inf", ["inference"]),
        (["profile", "show"], "gen", ["generic"]),
        (["why"], "vm.swap", ["vm.swappiness"]),
        (["undo", "--only"], "cpuGov", ["cpuGovernor"]),
        (["explain"], "noThr", ["noThrottle"]),
        (["explain"], "rollout.max", ["rollout.maxParallelLive", "rollout.maxUnavailable", "rollout.maxUnhealthy"]),
        (["audit", "-o"], "ju", ["junit"]),
        ([], "stat", ["status"]),
    ],
)
def test_the_shell_completes_names(words: list[str], begun: str, offered: list[str]) -> None:
    shell = get_completion_class("bash")
    assert shell is not None
    found = shell(cli, {}, "tuneagent", "_TUNEAGENT_COMPLETE").get_completions(words, begun)
    assert [one.value for one in found] == offered


def test_a_setting_that_the_profile_does_not_name_is_pointed_to(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.stat_interval: 10}}")
    told = call("--root", str(root), "why", "-f", file, "vm.swappiness")
    assert told.exit_code == 2 and told.stderr == (
        "tuneagent: profile t has no setting 'vm.swappiness'; `tuneagent explain vm.swappiness` says what it is, "
        "`-p` selects another profile\n"
    )
    assert "did you mean 'vm.stat_interval'?" in call("--root", str(root), "why", "-f", file, "vm.stat_interva").stderr


def test_an_audit_of_what_matters_most_or_without_a_word(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10, vm.stat_interval: 1}, ksm: {run: false}}")
    args = ["--root", str(root), "audit", "-f", file]
    everything = json.loads(call(*args, "-o", "json").stdout)["findings"]
    for least in Severity:
        shown = json.loads(call(*args, "--severity", least.value, "-o", "json").stdout)
        expected = [one["name"] for one in everything if Severity(one["severity"]).rank >= least.rank]
        assert [one["name"] for one in shown["findings"]] == expected
        assert sum(shown["summary"].values()) == len(expected)
    quiet = call(*args, "-q")
    assert (quiet.exit_code, quiet.output) == (3, "")
    assert call(*args, "-q", "--severity", "critical").exit_code == 0


def test_a_waiver_of_a_setting_that_was_not_chosen_is_not_unmatched(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    waivers = (
        '[{tunable: sysctl, subject: "key:vm.swappiness", reason: r}, {tunable: sysctl, subject: wrong, reason: r}]'
    )
    tune = "{sysctl: {vm.swappiness: 10, vm.stat_interval: 10}}"
    path.write_text(f"{HEAD}spec:\n  tune: {tune}\n  accept: {waivers}\n")
    shown = call("--root", str(root), "audit", "-f", str(path), "--only", "vm.stat_interval")
    assert "key:vm.swappiness" not in shown.stderr and "wrong" in shown.stderr


@pytest.mark.parametrize(
    ("tunable", "subject"),
    [("sysctl", "vm.swappiness"), ("sysctl", "key:vm.swappiness"), ("ksm", "ksm/run"), ("ksm", "run")],
)
def test_a_waiver_takes_a_setting_as_it_is_printed(root: Path, tmp_path: Path, tunable: str, subject: str) -> None:
    path = tmp_path / "p.yaml"
    accept = f"[{{tunable: {tunable}, subject: '{subject}', reason: r}}]"
    path.write_text(f"{HEAD}spec:\n  tune: {{sysctl: {{vm.swappiness: 10}}, ksm: {{run: true}}}}\n  accept: {accept}\n")
    shown = call("--root", str(root), "audit", "-f", str(path), "-o", "json")
    verdicts = {one["tunable"]: one["verdict"] for one in json.loads(shown.stdout)["findings"]}
    assert [name for name, verdict in verdicts.items() if verdict == "accepted"] == [tunable]
    assert call("--root", str(root), "audit", "-f", str(path)).stderr == ""


def test_what_a_plan_refuses_is_said_after_the_apply_too(root: Path, tmp_path: Path) -> None:
    (root / "etc/sysctl.d/zzz.conf").write_text("vm.swappiness = 5\n")
    (root / "proc/sys/vm/swappiness").write_text("10\n")
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    done = call("--root", str(root), "apply", "-f", file, "--yes")
    assert done.exit_code == 3 and done.stdout.startswith("refused  vm.swappiness") and "zzz.conf" in done.stdout
    # The running value is right: only the next boot is wrong, and no arrow says otherwise.
    assert "10 -> 10" not in call("--root", str(root), "audit", "-f", file).stdout


def test_a_severity_that_nothing_has_is_no_empty_profile(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    shown = call("--root", str(root), "audit", "-f", file, "--severity", "critical")
    assert (shown.exit_code, shown.stdout) == (
        0, "NOTHING CHECKED: no setting that was chosen has severity critical or more\n"
    )  # fmt: skip


def test_a_capture_goes_where_its_folder_is(root: Path, tmp_path: Path) -> None:
    nowhere = call("--root", str(root), "capture", str(tmp_path / "no/x.tgz"))
    assert nowhere.exit_code == 2 and "its folder does not exist" in nowhere.stderr and not (tmp_path / "no").exists()
    piped = call("--root", str(root), "capture", "-")
    assert piped.exit_code == 0 and piped.stdout_bytes[:2] == b"\x1f\x8b"


def test_a_daemon_without_a_profile_says_what_to_give() -> None:
    refused = call("daemon", "--metrics", "off")
    assert refused.exit_code == 2 and "give -f FILE, -p NAME or --node NAME" in refused.stderr


def test_a_child_finds_our_modules_where_we_found_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packaged command sets its path itself; nothing that it did not obey may lead its child elsewhere."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/said.py").write_text("import sys; print(sys.argv[1:], __name__)")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/said.py").write_text("print('theirs')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "theirs"))
    monkeypatch.syspath_prepend(str(tmp_path / "ours"))
    done = run_module("said", ["a", "b"], 20, {})
    assert (done.code, done.stdout, done.stderr) == (0, "['a', 'b'] __main__\n", "")


def test_one_state_folder_keeps_trees_apart(root: Path, tmp_path: Path) -> None:
    file, state = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}"), str(tmp_path / "state")
    other = tmp_path / "other"
    write_tree(other, {"proc/sys/vm/swappiness": "33\n"}, ["etc/sysctl.d"])
    assert call("--root", str(root), "--state-dir", state, "apply", "-f", file, "--yes").exit_code == 0
    assert call("--root", str(other), "--state-dir", state, "undo").exit_code == 0
    # Neither the other tree nor the live host takes the first tree's journal for its own.
    assert (other / "proc/sys/vm/swappiness").read_text() == "33\n"
    assert (root / "proc/sys/vm/swappiness").read_text() == "10\n"
    assert not (tmp_path / "state/journal.jsonl").exists()
    assert len(list((tmp_path / "state/trees").iterdir())) == 1
    assert call("--root", str(root), "--state-dir", state, "undo").exit_code == 0
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
