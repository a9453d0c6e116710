"""Real machines kept as captures: findings expected from raw files, and audits equal to the machine's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from captured_hosts import HOSTS, tuner_of
from support import assert_keeps_to_its_schema
from tuneagent.commands.settings import load_profile
from tuneagent.contracts.report import Report
from tuneagent.host.files import Files
from tuneagent.share.capture import take, unpack
from tuneagent.tunables.registry import registry


def _audit(capture: Path, folder: Path, profile: str) -> Report:
    place = capture if capture.is_file() else capture.parent
    return tuner_of(place, folder, profile).observe().report


def _verdicts(report: Report) -> dict[tuple[str, str], str]:
    return {
        (finding.tunable, re.sub(r"^gpu:GPU-[^/]+", "gpu:*", finding.subject)): finding.verdict.value
        for finding in report.findings
    }


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*/expected.yaml")), ids=lambda path: path.parent.name)
def test_findings_expected_from_raw_lines(path: Path, tmp_path: Path) -> None:
    expected = yaml.safe_load(path.read_text())
    report = _audit(path.parent / "capture.tar.gz", tmp_path, expected["profile"])
    assert_keeps_to_its_schema(report)
    wanted = {(one["tunable"], one["subject"]): one["verdict"] for one in expected["findings"]}
    assert _verdicts(report) == wanted
    files = Files(str(tmp_path / "root"))
    for one in expected["findings"]:
        if "file" in one:
            assert one["raw"] in files.read(one["file"]), one


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*/machine.yaml")), ids=lambda path: path.parent.name)
@pytest.mark.parametrize("profile", ["generic", "training"])
def test_a_captures_audit_is_the_machines_own(path: Path, profile: str, tmp_path: Path) -> None:
    machine = {(one["tunable"], one["subject"]): one["verdict"] for one in yaml.safe_load(path.read_text())[profile]}
    found = _verdicts(_audit(path.parent / "capture.tar.gz", tmp_path, profile))
    assert found == machine


def test_a_capture_of_a_capture_says_the_same_and_hides_names(tmp_path: Path) -> None:
    first = HOSTS / "h100-live" / "capture.tar.gz"
    host = unpack(str(first), str(tmp_path / "one"))
    (tmp_path / "one/root/proc/sys/kernel/hostname").write_text("trainer-17.example\n")
    again = tmp_path / "again.tar.gz"
    again.write_bytes(take(host, [load_profile(None, "generic")], registry(), identifiers=False))
    report = _audit(again, tmp_path / "two", "generic")
    assert _verdicts(report) == _verdicts(_audit(first, tmp_path / "three", "generic"))
    everything = b"".join(path.read_bytes() for path in (tmp_path / "two").rglob("*") if path.is_file())
    assert b"trainer-17" not in everything
