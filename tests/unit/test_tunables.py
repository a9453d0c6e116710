"""Every tunable against its folder of cases, and what follows for each from its cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cases import CASES, load, name_of, session_of_case
from support import assert_keeps_to_its_schema, read_tree
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_findings_and_plan(path: Path, tmp_path: Path) -> None:
    case = load(path)
    session = session_of_case(case, path, tmp_path)
    plan, judged = (seen := session.observe()).plan, seen.assessments
    assert_keeps_to_its_schema(seen.report)
    found = {item.finding.subject: msgspec.to_builtins(item.finding) for item in judged}
    for wanted in case["findings"]:
        finding = found[wanted["subject"]]
        assert {key: finding[key] for key in wanted if key != "says"} == {
            k: v for k, v in wanted.items() if k != "says"
        }
        assert wanted.get("says", "") in finding["advice"]
    assert len(found) == len(case["findings"]), sorted(found)
    changes = [msgspec.to_builtins(change) for change in plan.changes]
    wanted_changes = case.get("plan", [])
    assert [{key: change[key] for key in wanted} for change, wanted in zip(changes, wanted_changes, strict=False)] == (
        wanted_changes
    )
    assert len(changes) == len(wanted_changes)
    reasons = {item.subject: item.reason for item in plan.refused}
    assert set(reasons) == set(case.get("refused", {}))
    for subject, reason in case.get("refused", {}).items():
        assert reason in reasons[subject]


WRITABLE = [path for path in CASES if yaml.safe_load(path.read_text()).get("files_after") is not None]


@pytest.mark.parametrize("path", WRITABLE, ids=name_of)
def test_apply_then_nothing_to_do_then_undo_restores_the_tree(path: Path, tmp_path: Path) -> None:
    case = load(path)
    session = session_of_case(case, path, tmp_path)
    before = read_tree(tmp_path)
    units_before = msgspec.json.encode(case.get("units", {}))
    applied = session.apply(limit=Disruption.REBOOT)
    assert [outcome.result for outcome in applied.outcomes] == ["verified"] * len(case["plan"]), applied.outcomes
    after = read_tree(tmp_path)
    for name, content in case["files_after"].items():
        assert after.get(name) == (None if content is None else content.encode()), name
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed <= set(case["files_after"])
    assert not session.observe().plan.changes
    results = session.undo()
    assert all(result.is_settled for result in results), results
    assert read_tree(tmp_path) == before
    assert msgspec.json.encode(case.get("units", {})) == units_before
    assert not session.journal.applied()


def _by_file() -> list[tuple[Path, str, str]]:
    found = []
    for path in WRITABLE:
        case = load(path)
        for name in case["files_after"]:
            if name.startswith(("proc/", "sys/")) and name in case["files"]:
                found.append((path, name, "evidence"))
    return found


@pytest.mark.parametrize(
    ("path", "name", "_"), _by_file(), ids=lambda value: name_of(value) if isinstance(value, Path) else value
)
def test_file_of_a_setting_gone_garbled_or_refused(path: Path, name: str, _: str, tmp_path: Path) -> None:
    case = load(path)

    def verdicts(folder: str, change: Any, unreadable: dict[str, str] | None = None) -> set[Verdict]:
        root = tmp_path / folder
        session = session_of_case(case, path, root, unreadable)
        change(root / name)
        return {
            finding.verdict
            for finding in session.observe().report.findings
            if f"/{name}" in finding.evidence.split(", ")
        }

    assert verdicts("gone", lambda file: file.unlink()) == {Verdict.UNSUPPORTED}
    assert verdicts("garbled", lambda file: file.write_bytes(b"\xff\xfe\x00")) == {Verdict.UNKNOWN}
    assert verdicts("refused", lambda file: None, {name: "EACCES Permission denied"}) == {Verdict.UNKNOWN}
    assert verdicts("looping", lambda file: (file.unlink(), file.symlink_to(file.name))) == {Verdict.UNKNOWN}
