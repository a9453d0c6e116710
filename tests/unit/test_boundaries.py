"""One item's trouble is that item's: a row of the journal, a document, a profile file under a running daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import FIXTURES, read_tree, session_of, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.contracts.journal import Record
from tuneagent.contracts.values import Lifetime
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.engine.journal import COMPACT_BYTES
from tuneagent.engine.journal_lines import READABLE
from tuneagent.errors import JournalError, ProfileInvalid
from tuneagent.formats.yaml_document import load_yaml
from tuneagent.host.files import Files
from tuneagent.host.state_folder import StateFolder
from tuneagent.node.passes import JITTER, next_wait_s
from tuneagent.profile_files.document import parse

TUNEAGENT = str(Path(sys.executable).parent / "tuneagent")
HEAD = "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: p}\n"
FILES = {
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/vm/stat_interval": "1\n",
    "proc/sys/vm/dirty_ratio": "20\n",
    "proc/sys/vm/dirty_bytes": "0\n",
    "proc/sys/kernel/random/boot_id": "b0\n",
}
TUNE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}, "dirtyPages": {"ratio": 12}}


def line(record: dict[str, Any] | bytes, version: int = READABLE[-1]) -> bytes:
    body = record if isinstance(record, bytes) else json.dumps(record, separators=(",", ":")).encode()
    return b'{"v":%d,"crc":"%08x","record":%s}\n' % (version, zlib.crc32(body), body)


def foreign(**change: Any) -> dict[str, Any]:
    """A record as a newer version may write it."""
    record = Record(
        step="intended", time=1.0, plan="p", tunable="sysctl", lifetime=Lifetime.BOOT, boot_id="b0", profile="case"
    )
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return {**plain, "subjects": [{"subject": "key:x", "prior": 1, "wrote": 2}], **change}


FOREIGN: dict[str, dict[str, Any] | bytes] = {
    "unknown row": foreign(tunable="kernelFiles", subjects=[{"subject": "file:newRow", "prior": "1", "wrote": "2"}]),
    "unknown pair": foreign(tunable="dirtyPages", subjects=[{"subject": "key:vm.newPair", "prior": {}, "wrote": {}}]),
    "unknown tunable": foreign(tunable="newTunable"),
    "unknown step": foreign(step="teleported"),
    "unknown lifetime": foreign(lifetime="aeon"),
    "another shape": foreign(subjects={"a": 1}),
    "a subject that is none": foreign(tunable="hugepages", subjects=[{"subject": "node:x", "prior": 1, "wrote": 2}]),
    "a row without entries": foreign(subjects=[]),
    "nothing of ours": {"something": ["else"]},
    "nested very deep": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a character": b'{"step":"noted","note":"\\ud800"}',
    "no text": b'{"step":"\xff\xfe"}',
    "a value of another kind": foreign(tunable="limits", subjects=[{"subject": "limit:memlock", "prior": {"a": []}}]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_row_that_this_version_does_not_know_costs_that_row_alone(kind: str, tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/sysctl.d"])
    before = read_tree(tmp_path)
    session = session_of(tree(Files(str(tmp_path))), TUNE)
    session.apply()
    journal = tmp_path / "var/lib/tuneagent/journal.jsonl"
    added = line(FOREIGN[kind])
    journal.write_bytes(journal.read_bytes() + added)
    # Apply and audit go on, and so does what the row does not speak of.
    (tmp_path / "proc/sys/vm/swappiness").write_text("44\n")
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    assert session.observe().report.summary["converged"] == 3
    results = {(one.tunable, one.subject): one for one in session.undo()}
    assert {results[("sysctl", f"key:{key}")].result for key in TUNE["sysctl"]} == {"undone"}
    assert results[("dirtyPages", "key:vm.dirty")].result == "undone"
    after = read_tree(tmp_path)
    after.pop("var/lib/tuneagent/journal.jsonl", None)
    assert {name: data for name, data in after.items() if not name.startswith("var/")} == before
    # It stays, is listed, and a journal made shorter has it still.
    session.journal.shrink(0)
    if kind != "a row without entries":
        assert [one for one in session.undo() if one.result == "failed"] or "limit" in str(FOREIGN[kind])
    if session.journal.foreign():
        assert added.strip() in journal.read_bytes()
        assert "not understood by this version" in " ".join(one.reason for one in session.undo())


def test_a_time_that_is_none_is_shown_as_it_is(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/sysctl.d", "var/lib/tuneagent"])
    rows = [foreign(time=1e300), foreign(time=-1e18), foreign(time=1.0)]
    (tmp_path / "var/lib/tuneagent/journal.jsonl").write_bytes(b"".join(map(line, rows)))
    result = CliRunner().invoke(cli, ["--root", str(tmp_path), "journal"])
    assert result.exit_code == 0 and result.output.count("not a time") == 2, result.output


@given(st.integers(0, 9), st.floats(-1e9, 0))
def test_a_deadline_that_is_past_hurries_nothing(failures: int, until_deadline_s: float) -> None:
    assert next_wait_s(10.0, failures, until_deadline_s) >= 10.0 * (1 - JITTER)


def test_a_damaged_row_still_stops_everything(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/sysctl.d"])
    session = session_of(tree(Files(str(tmp_path))), TUNE)
    session.apply()
    journal = tmp_path / "var/lib/tuneagent/journal.jsonl"
    journal.write_bytes(
        line(FOREIGN["unknown step"]).replace(b'"v":%d' % READABLE[-1], b'"v":%d' % (READABLE[-1] + 1))
        + journal.read_bytes()
    )
    with pytest.raises(JournalError, match=f"version {READABLE[-1] + 1}"):
        session.undo()
    assert COMPACT_BYTES > 0


NASTY = {
    "a very long hex number": "{sysctl: {vm.swappiness: 0x" + "f" * 5000 + "}}",
    "a key that is one": "{sysctl: {0x" + "f" * 5000 + ": 1}}",
    "sexagesimal": "{sysctl: {vm.swappiness: " + ":".join(["1"] + ["59"] * 8_000) + "}}",
    "an empty int": '{sysctl: {vm.swappiness: !!int ""}}',
    "an empty float": '{sysctl: {vm.swappiness: !!float ""}}',
    "no bool": "{sysctl: {vm.swappiness: !!bool abc}}",
    "no time": "{sysctl: {vm.swappiness: !!timestamp abc}}",
    "no map": "{sysctl: !!map [a]}",
    "no set": "{sysctl: !!set [a]}",
    "a set": "{sysctl: !!set {a, b}}",
    "bytes": "{sysctl: {vm.swappiness: !!binary aGk=}}",
    "bytes that are none": "{sysctl: {vm.swappiness: !!binary '*'}}",
    "half a character": '{sysctl: {vm.swappiness: "\\ud800"}}',
    "half a character in a key": '{sysctl: {"\\udfff": 1}}',
    "infinity": "{sysctl: {vm.swappiness: .inf}}",
    "not a number": "{sysctl: {vm.swappiness: .nan}}",
    "a date": "{sysctl: {vm.swappiness: 2026-11-27}}",
    "a time": "{sysctl: {vm.swappiness: 2026-11-27T10:00:00Z}}",
    "no date": "{sysctl: {vm.swappiness: 2026-13-45}}",
    "deep": "[" * 60_000,
    "an object": "!!python/object:os.system x",
    "an ordered map": "!!omap [a]",
    "pairs": "!!pairs [[1]]",
    "a tag without a type": "!<!> x",
    "an anchor": "&a {b: *a}",
    "a merge": "{<<: {a: 1}}",
    "a merge of nothing": "{<<: x}",
    "a number as a key": "{1: {a: 1}}",
    "nothing": "null",
    "nul": '{sysctl: {"vm.swappiness\\0": 1}}',
    "2^64": "{sysctl: {fs.file-max: 18446744073709551616}}",
}  # fmt: skip


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("place", ["tune", "priority", "rollout", "accept", "nodeSelector", "extends", "drift"])
def test_what_python_raises_for_a_document_is_a_fault_of_the_document(kind: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}spec:\n  {place}: {NASTY[kind]}\n")
    done = CliRunner().invoke(cli, ["profile", "check", str(path)])
    # A value that is sound YAML and fits is none.
    assert done.exit_code in (0, 2), (done.exit_code, done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    if place in ("tune", "priority") and kind not in ("nothing", "a merge"):
        assert done.exit_code == 2 and str(path) in done.stderr


@pytest.mark.parametrize("kind", NASTY)
def test_the_same_as_the_whole_document(kind: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse(load_yaml(NASTY[kind], "p"), "p")


class Daemon:
    """A daemon on a tree, with a profile file and its log."""

    def __init__(self, root: Path, profile: Path) -> None:
        self.root = root
        self.profile = profile
        self.log = root.parent / "log"

    def __enter__(self) -> Daemon:
        argv = [
            TUNEAGENT,
            "--root",
            str(self.root),
            "daemon",
            "-f",
            str(self.profile),
            "--interval",
            "1",
            "--metrics",
            "off",
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log, env={**os.environ})
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.log.read_text().splitlines()]

    def wait_for(self, ready: Any) -> None:
        deadline = time.monotonic() + 40
        while not ready():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def says(self, word: str) -> bool:
        return word in self.log.read_text()


def swappiness(root: Path) -> str:
    return (root / "proc/sys/vm/swappiness").read_text().strip()


def test_no_profile_file_and_no_journal_ends_a_running_daemon(tmp_path: Path) -> None:
    root, profile = tmp_path / "tree", tmp_path / "p.yaml"
    write_tree(root, FILES, ["etc/sysctl.d"])
    sound = f"{HEAD}spec:\n  drift: repair\n  tune: {{sysctl: {{vm.swappiness: 10}}}}\n"
    profile.write_text(sound)
    journal = root / "var/lib/tuneagent/journal.jsonl"
    with Daemon(root, profile) as daemon:
        daemon.wait_for(lambda: swappiness(root) == "10")
        kept = journal.read_bytes()
        for number, kind in enumerate(("a very long hex number", "an empty int", "no time", "no map", "deep")):
            (root / "proc/sys/vm/swappiness").write_text("60\n")
            profile.write_text(f"{HEAD}spec:\n  tune: {NASTY[kind]}\n")
            # The last good profile goes on.
            daemon.wait_for(lambda: swappiness(root) == "10")
            daemon.wait_for(lambda number=number: daemon.log.read_text().count("profile not read") > number)
        for damage in (b"\xff\xfe garbage\n", line(FOREIGN["unknown row"]), line(FOREIGN["another shape"]) * 3, b""):
            journal.write_bytes(damage)
            time.sleep(1.5)
            assert daemon.process.poll() is None, daemon.log.read_text()[-3000:]
        journal.write_bytes(kept)
        profile.write_text(sound.replace("10}}", "11}}"))
        daemon.wait_for(lambda: swappiness(root) == "11")


def test_a_daemon_on_a_host_writes_nothing_unless_the_profile_says_so(tmp_path: Path) -> None:
    root, profile = tmp_path / "tree", tmp_path / "p.yaml"
    write_tree(root, FILES, ["etc/sysctl.d"])
    before = read_tree(root)
    profile.write_text(f"{HEAD}spec: {{tune: {{sysctl: {{vm.swappiness: 10}}}}}}\n")
    with Daemon(root, profile) as daemon:
        daemon.wait_for(lambda: daemon.says('"findings"'))
        time.sleep(2)
        started = next(one for one in daemon.lines() if one["message"] == "started")
        assert started["drift"] == "report" and "nothing is written" in started["does"]
        assert {name: data for name, data in read_tree(root).items() if not name.startswith("var/")} == before
        # Told before the first write, with what is there and what will be.
        profile.write_text(f"{HEAD}spec: {{drift: repair, tune: {{sysctl: {{vm.swappiness: 10}}}}}}\n")
        daemon.wait_for(lambda: swappiness(root) == "10")
        daemon.wait_for(lambda: daemon.says('"message":"change"'))
    lines = [one for one in daemon.lines() if one["message"] in ("about to write", "change")]
    assert lines[0]["message"] == "about to write"
    assert [(one["subject"], one["found"], one["wanted"]) for one in lines[0]["changes"]] == [
        ("key:vm.swappiness", 60, 10)
    ]


@pytest.mark.parametrize("name", ["drift", "spec.drift", "canary", "rollout.canary", "rollout.drain.mode", "allNodes"])
def test_fields_of_a_profile_are_explained(name: str) -> None:
    done = CliRunner().invoke(cli, ["explain", name])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("spec.") and name.rpartition(".")[2] in done.output.splitlines()[0]
    if "drift" in name:
        assert all(word in done.output for word in ("report", "repair", "freeze", "on a host"))


def test_every_field_of_a_profile_says_what_it_means() -> None:
    from tuneagent.report.reference import profile_fields

    assert not [name for name, text in profile_fields().items() if not text]


def test_what_is_right_and_not_kept_keeps_no_job_away(tmp_path: Path) -> None:
    write_tree(tmp_path / "t", {"proc/sys/kernel/numa_balancing": "0\n"}, ["etc/sysctl.d"])
    profile = tmp_path / "p.yaml"
    profile.write_text(f"{HEAD}spec: {{tune: {{sysctl: {{kernel.numa_balancing: 0}}}}}}\n")
    argv = ["--root", str(tmp_path / "t"), "audit", "-f", str(profile)]
    assert CliRunner().invoke(cli, argv).exit_code == 3
    assert CliRunner().invoke(cli, [*argv, "--fail-on", "info"]).exit_code == 0
    (tmp_path / "t/proc/sys/kernel/numa_balancing").write_text("1\n")
    assert CliRunner().invoke(cli, [*argv, "--fail-on", "info"]).exit_code == 3


@pytest.mark.parametrize("capture", sorted((FIXTURES / "hosts").glob("*/capture.tar.gz")), ids=lambda p: p.parent.name)
def test_a_host_without_systemd_is_not_told_what_only_systemd_does(capture: Path, tmp_path: Path) -> None:
    from tuneagent.commands.settings import load_profile
    from tuneagent.share.capture import unpack

    host = unpack(str(capture), str(tmp_path))
    report = (
        HostTuner(host, StateFolder(host.files, "var/lib/tuneagent"), load_profile(None, "generic")).observe().report
    )
    rows = {one.subject: one.verdict.value for one in report.findings if one.tunable == "checks"}
    answers = host.exec._answers.values()  # type: ignore[attr-defined]
    if any("systemd does not run here" in one.stderr for one in answers):
        assert {rows[f"check:{name}"] for name in ("runtimeMemlock", "timeSynchronized")} == {"unsupported"}


def test_a_link_for_containers_is_no_matter_where_there_are_none(tmp_path: Path) -> None:
    def verdict(name: str, files: dict[str, str], folders: list[str]) -> str:
        root = tmp_path / name
        write_tree(
            root, {"dev/nvidia0": "", "dev/nvidiactl": "", **files}, ["dev/char", "run/systemd", "run", *folders]
        )
        report = session_of(tree(Files(str(root))), {"checks": {"deviceLinks": True}}).observe().report
        return report.findings[0].verdict.value

    signs = ["etc/containerd", "usr/bin", "usr/local/bin", "run/systemd/system"]
    assert verdict("container runtime", {}, signs) == "drifted"
    assert verdict("no systemd", {}, signs[:3]) == "unsupported"
    for folder in ("etc", "etc/crio", "usr/bin", "usr/local/bin", "var/run"):
        (tmp_path / "none" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "none/etc/crio").rmdir()
    assert verdict("none", {}, ["run/systemd/system"]) == "unsupported"
