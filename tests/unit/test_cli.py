"""The command line as others script against it: exit codes, documents, messages for wrong input."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result
from support import FIXTURES, session_of, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.values import Severity
from tuneagent.engine.host_tuner import STATE_FOLDER
from tuneagent.host.files import Files
from tuneagent.node.confirmation import DAEMON_LOCK
from tuneagent.report.audit_screen import report_text
from tuneagent.report.values import wanted

HEAD = "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: t}\n"


def call(*argv: str) -> Result:
    return CliRunner().invoke(cli, list(argv))


def schema(name: str) -> Any:
    return json.loads(
        (importlib.resources.files("tuneagent.contracts") / "schemas" / f"{name}.schema.json").read_text()
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tree(tmp_path / "tree", {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    return tmp_path / "tree"


def profile(tmp_path: Path, tune: str, more: str = "") -> str:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}spec:\n  tune: {tune}\n{more}")
    return str(path)


def test_documents_keep_to_their_schemas(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    plan = call("--root", str(root), "plan", "-f", file, "-o", "json")
    assert plan.exit_code == 3
    jsonschema.validate(json.loads(plan.stdout), schema("plan"))
    audit = call("--root", str(root), "audit", "-f", file, "-o", "json")
    assert audit.exit_code == 3
    jsonschema.validate(json.loads(audit.stdout), schema("report"))
    applied = call("--root", str(root), "apply", "-f", file, "--yes", "-o", "json")
    assert applied.exit_code == 0
    jsonschema.validate(json.loads(applied.stdout), schema("applied"))
    for name, argv in {
        "journal": ["journal"], "undone": ["undo"], "topology": ["topology"], "diff": ["diff", str(root), str(root)],
    }.items():  # fmt: skip
        jsonschema.validate(json.loads(call("--root", str(root), *argv, "-o", "json").stdout), schema(name))
    finding = json.loads(audit.stdout)["findings"][0]
    assert set(finding) == {
        "tunable", "subject", "name", "verdict", "severity", "desired", "observed", "persisted", "nextBoot", "cannotPersist", "comparison", "owner", "evidence",
        "inEffect", "disruption", "why", "advice", "sources",
    }  # fmt: skip


def test_exit_codes(root: Path, tmp_path: Path) -> None:
    drifted = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    assert call("--root", str(root), "audit", "-f", drifted).exit_code == 3
    assert call("--root", str(root), "audit", "-f", drifted, "--fail-on", "high").exit_code == 0
    converged = profile(tmp_path, "{sysctl: {vm.swappiness: 60}}")
    assert call("--root", str(root), "audit", "-f", converged).exit_code == 0
    unknown = profile(tmp_path, "{gpu: {persistence: true}}")
    assert call("--root", str(root), "audit", "-f", unknown).exit_code == 4
    assert call("--root", "/no/such", "audit").exit_code == 2
    assert call("audit", "-p", "trainin").exit_code == 2
    assert "did you mean 'training'" in call("audit", "-p", "trainin").stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a mapping"),
        ("a: [", "expected"),
        ("\x00\x01", "control characters are not allowed"),
        ("a: &a [1]\nb: [*a, *a]\n", "aliases are not allowed"),
        (HEAD + "spec: {tune: {}, tune: {}}\n", "given twice"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64 levels"),
        (HEAD + "spec: {tunes: {}}\n", "did you mean 'tune'?"),
        (HEAD + "spec: {tune: {sysctls: {}}}\n", "did you mean 'sysctl'?"),
        (HEAD + "spec: {tune: {sysctl: {kernel.core_pattern: '|/bin/sh'}}}\n", "not a key that a profile may set"),
        (HEAD + "spec: {tune: {sysctl: {kernel.modprobe: /tmp/x}}}\n", "not a key that a profile may set"),
        (HEAD + "spec: {tune: {sysctl: {'vm.../../etc/passwd': 1}}}\n", "not a key that a profile may set"),
        (HEAD + 'spec: {tune: {sysctl: {vm.swappiness: "1\\nkernel.panic = 1"}}}\n', "is not a plain value"),
        (HEAD + "spec: {tune: {sysctl: {kernel.sem: {min: 300}}}}\n", "holds several numbers"),
        (HEAD + "spec: {tune: {sysctl: {vm.dirty_ratio: 5}}}\n", "belongs to the tunable 'dirtyPages'"),
        (HEAD + "spec: {tune: {dirtyPages: {ratio: 5, bytes: 9999999}}}\n", "two names of one setting"),
        (HEAD + "spec: {tune: {kernelArguments: {init: /bin/sh}}}\n", "not an argument that a profile may set"),
        (HEAD + "spec: {tune: {kernelArguments: {mitigations: off}}}\n", "not an argument that a profile may set"),
        (HEAD + "spec: {tune: {kernelArguments: {isolcpus: '1 init=/bin/sh'}}}\n", "is not a plain word"),
        (HEAD + "spec: {tune: {kernelArguments: {isolcpus: '1\"'}}}\n", "is not a plain word"),
        (HEAD + "spec: {tune: {services: {sshd: stopped}}}\n", "not a service that a profile may touch"),
        (HEAD + "spec: {tune: {hugepages: {pages: [{size: 3Mi, perNumaNode: 1}]}}}\n", "is not one of"),
        (HEAD + "spec: {extends: [nothing]}\n", "does not exist"),
        (HEAD + "spec: {tune: {}, rollout: {maxUnavailable: 200%}}\n", "neither a count nor a percentage"),
        ("kind: Pod\n", "wanted 'TuningProfile'"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_fault(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    for argv in (("audit", "-f", str(path)), ("profile", "check", str(path))):
        result = call(*argv)
        assert result.exit_code == 2, result.output
        assert says in result.stderr
        assert "Traceback" not in result.output


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        HEAD.replace("t}", "T_}") + "spec: {priority: high, drift: maybe, tune: {}, rollout: {canary: -1}}\n"
    )
    text = call("profile", "check", str(path)).stderr
    assert all(part in text for part in ("metadata.name", "spec.priority", "spec.drift", "spec.rollout.canary"))


def test_unreadable_profiles(tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\xe9")
    for name in ("huge.yaml", "loop.yaml", "latin.yaml", "missing.yaml"):
        result = call("audit", "-f", str(tmp_path / name))
        assert result.exit_code == 2, (name, result.output)


def test_damaged_captures(tmp_path: Path) -> None:
    import io
    import tarfile

    path = tmp_path / "c.tar.gz"
    for data in (b"", b"\x1f\x8b broken", b"plain text"):
        path.write_bytes(data)
        result = call("--capture", str(path), "audit")
        assert result.exit_code == 1 and "not a valid capture" in result.stderr
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../escape"), io.BytesIO())
    assert "leaves the capture" in call("--capture", str(path), "audit").stderr
    assert call("--capture", str(path), "apply", "--yes").exit_code == 2


def test_profile_show_says_where_settings_come_from() -> None:
    text = call("profile", "show", "training", "--resolved").stdout
    assert "# from generic, training" in text and "vm.swappiness: 10" in text


def test_explain_and_topology(root: Path) -> None:
    assert "dirtyPages" in call("explain").stdout
    shown = call("explain", "mig")
    assert shown.exit_code == 0 and not shown.stderr
    assert "disruption  gpu" in shown.stdout and "\n    enabled  true or false; default true\n" in shown.stdout
    assert "takes       map of names to whole number or text or {min}" in call("explain", "sysctl").stdout
    assert (
        "  rows        cpusOnline" in call("explain", "checks").stdout
        and "  fields" not in call("explain", "checks").stdout
    )
    assert call("explain", "migs").exit_code == 2
    assert json.loads(call("--root", str(root), "topology", "-o", "json").stdout)["cpus_online"] is None


@pytest.mark.parametrize("content", ["", "-1", "99999999999999999999999", "60 60", "0x3c", "sixty"])
def test_absurd_numbers_never_pass(content: str, root: Path, tmp_path: Path) -> None:
    (root / "proc/sys/vm/swappiness").write_text(content)
    result = call("--root", str(root), "audit", "-f", profile(tmp_path, "{sysctl: {vm.swappiness: 60}}"))
    assert result.exit_code in (3, 4)


def test_a_flipped_bit_in_a_capture_is_noticed(tmp_path: Path) -> None:

    data = bytearray((FIXTURES / "hosts/h100-live/capture.tar.gz").read_bytes())
    path = tmp_path / "flipped.tar.gz"
    for position in range(100, len(data), len(data) // 20):
        changed = bytearray(data)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        assert call("--capture", str(path), "audit").exit_code == 1


def test_what_a_machine_could_not_read_is_unknown_in_its_capture(root: Path, tmp_path: Path) -> None:
    from support import tree
    from tuneagent.commands.settings import load_profile
    from tuneagent.errors import ReadFailed
    from tuneagent.host.files import Files
    from tuneagent.host.recording import RecordingFiles
    from tuneagent.share.capture import take
    from tuneagent.tunables.registry import registry

    write_tree(root, {"etc/sysctl.d/90.conf": "vm.swappiness = 70\n"})
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 60}}")
    original = Files.read_bytes

    def refused(self: Files, path: str) -> bytes:
        if path.endswith("90.conf") and isinstance(self, RecordingFiles):
            raise ReadFailed("etc/sysctl.d/90.conf: EACCES Permission denied")
        return original(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "read_bytes", refused)
        data = take(tree(Files(str(root))), [load_profile(file, None)], registry(), identifiers=True)
    (tmp_path / "c.tar.gz").write_bytes(data)
    assert call("--capture", str(tmp_path / "c.tar.gz"), "audit", "-f", file).exit_code == 4


def test_hostile_files_of_a_tree_are_unknown_and_never_hang(root: Path, tmp_path: Path) -> None:
    import os

    file = profile(tmp_path, "{sysctl: {vm.swappiness: 60}}")
    target = root / "proc/sys/vm/swappiness"

    def verdict() -> str:
        return str(
            json.loads(call("--root", str(root), "audit", "-f", file, "-o", "json").stdout)["findings"][0]["verdict"]
        )

    with (root / "huge").open("wb") as handle:
        handle.truncate(1 << 30)
    target.unlink()
    target.symlink_to("/huge")
    assert verdict() == "unknown"
    target.unlink()
    os.mkfifo(target)
    assert verdict() == "unknown"
    target.unlink()
    target.mkdir()
    assert verdict() == "unknown"
    target.rmdir()
    # An absolute link stays inside the tree: this machine's own file is not read.
    target.symlink_to("/proc/sys/kernel/ostype")
    assert verdict() == "unsupported"


def test_a_file_that_vanishes_or_breaks_during_the_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from tuneagent.host import files as files_module
    from tuneagent.host.files import Files

    def broken(number: int) -> Any:
        def read(descriptor: int, size: int) -> bytes:
            raise OSError(number, "played")

        return read

    from tuneagent.errors import ReadFailed

    for number in (errno.EIO, errno.ENODEV, errno.ESTALE):
        with monkeypatch.context() as patch:
            patch.setattr(files_module.os, "read", broken(number))
            with pytest.raises(ReadFailed, match=errno.errorcode[number]):
                Files(str(root)).read("proc/sys/vm/swappiness")


def test_undo_tells_what_a_crash_had_left_open(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    replace = Files.replace

    def die(self: Files, path: str, data: bytes, mode: int = 0o644) -> None:
        if "sysctl.d" in path:
            raise KeyboardInterrupt
        replace(self, path, data, mode)

    monkeypatch.setattr(Files, "replace", die)
    assert call("--root", str(root), "apply", "-f", file, "--yes").exit_code == 130
    monkeypatch.setattr(Files, "replace", replace)
    assert (root / "proc/sys/vm/swappiness").read_text() == "10\n"
    told = call("--root", str(root), "why", "vm.swappiness", "-f", file).output
    assert "intended   10" in told and "written" not in told.replace("it was written", "")
    undone = call("--root", str(root), "undo")
    assert "undone  vm.swappiness  60  taken back after a crash" in undone.output
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
    assert call("--root", str(root), "undo").output == "nothing to undo\n"


def test_an_acceptance_that_has_ended_is_said(root: Path, tmp_path: Path) -> None:
    until = '  accept: [{tunable: sysctl, subject: "key:vm.swappiness", reason: r, until: 2020-01-31}]\n'
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}", until)
    finding = json.loads(call("--root", str(root), "audit", "-f", file, "-o", "json").stdout)["findings"][0]
    assert finding["verdict"] == "drifted" and finding["advice"].startswith("its acceptance ended on 2020-01-31")


def test_an_acceptance_of_nothing_is_told_beside_the_audit(root: Path, tmp_path: Path) -> None:
    typo = '  accept: [{tunable: sysctl, subject: "key:vm.swappines", reason: r}]\n'
    shown = call("--root", str(root), "audit", "-f", profile(tmp_path, "{sysctl: {vm.swappiness: 60}}", typo))
    assert shown.exit_code == 0
    assert shown.stderr == (
        "tuneagent: accept: no setting sysctl 'key:vm.swappines' here; did you mean 'key:vm.swappiness'?\n"
    )
    other = typo.replace("sysctl,", "cpuGovernor,")
    shown = call("--root", str(root), "audit", "-f", profile(tmp_path, "{sysctl: {vm.swappiness: 60}}", other))
    assert shown.stderr == "tuneagent: accept: no setting cpuGovernor 'key:vm.swappines' here\n"
    date = typo.replace("reason: r", "reason: r, until: 2027-13-31")
    refused = call("profile", "check", profile(tmp_path, "{sysctl: {vm.swappiness: 60}}", date))
    assert (
        refused.exit_code == 2 and "error: 2027-13-31 is not a date" in refused.output and "p.yaml:6:" in refused.output
    )


def test_a_pipe_as_profile_is_refused_with_what_to_do(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = call("--root", str(root), "audit", "-f", str(tmp_path / "pipe"))
    assert refused.exit_code == 2 and "`-f -` reads standard input" in refused.output


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--capture", "/nosuch", "audit"], "--capture /nosuch: no such file"),
        (["plan", "--only", "sysct"], "did you mean 'sysctl'?"),
        (["undo", "--only", "sysct"], "did you mean 'sysctl'?"),
    ],
)
def test_wrong_names_are_wrong_use(argv: list[str], told: str) -> None:
    refused = call(*argv)
    assert refused.exit_code == 2 and told in refused.output


def test_a_change_by_hand_while_a_daemon_runs_is_warned_of(root: Path, tmp_path: Path) -> None:
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    assert "a daemon runs" not in call("--root", str(root), "apply", "-f", file, "--yes").output
    files = Files(str(root))
    with files.locked(f"{STATE_FOLDER}/{DAEMON_LOCK}"):
        assert "a daemon runs on this host" in call("--root", str(root), "undo").output


def test_colour_is_for_terminals_alone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}}).observe().report
    plain = report_text(report, columns=100)
    assert "\x1b" not in plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = report_text(report, columns=100)
    assert "\x1b[31m\x1b[1mNOT OK\x1b[0m: 1 setting" in coloured
    # The same lines in the same order and width.
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert report_text(report, columns=100) == plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    with monkeypatch.context() as context:
        context.setenv("FORCE_COLOR", "1")
        assert report_text(report, columns=100) == coloured


def test_a_lower_limit_is_shown_as_one_whatever_stands_for_no_limit() -> None:
    finding = Finding(tunable="sysctl", subject="key:x", verdict=Verdict.DRIFTED, severity=Severity.LOW, desired=5)
    lower = msgspec.structs.replace(finding, comparison="atLeast")
    assert (wanted(finding), wanted(lower)) == ("5", "at least 5")


def test_a_capture_has_no_journal(root: Path) -> None:
    told = call("--capture", str(FIXTURES / "hosts/h100-live/capture.tar.gz"), "journal")
    assert told.exit_code == 2 and "a capture holds no journal" in told.stderr


def test_a_confirmation_that_nobody_could_keep_leaves_nothing(root: Path, tmp_path: Path) -> None:
    before = sorted(path for path in root.rglob("*"))
    file = profile(tmp_path, "{sysctl: {vm.swappiness: 10}}")
    told = call("--root", str(root), "apply", "-f", file, "--yes", "--confirm-within", "5m")
    assert told.exit_code == 2 and "no systemd timer can be set" in told.stderr
    assert [path for path in sorted(root.rglob("*")) if "var" not in path.parts] == before
    assert (root / "proc/sys/vm/swappiness").read_text() == "60\n"
