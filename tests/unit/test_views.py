"""Every view of a report, against a golden file in its folder of cases: `fixtures/views/NAME/CASE.*` beside `CASE.json`."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from support import FIXTURES
from tuneagent.contracts.report import Report
from tuneagent.report.view import view, view_names

VIEWS = FIXTURES / "views"
CASES = sorted(path for path in VIEWS.glob("*/*") if path.is_file())
NOW = 1_800_000_000.0


def reports() -> dict[str, Report]:
    """The reports that the cases are about, by name."""
    return {path.stem: msgspec.json.decode(path.read_bytes(), type=Report) for path in VIEWS.glob("*.json")}


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_view_is_as_its_golden_file(path: Path) -> None:
    assert view(path.parent.name)(reports()[path.stem], NOW) + "\n" == path.read_text()


def test_every_view_has_cases_for_every_report() -> None:
    assert sorted({path.parent.name for path in CASES}) == view_names()
    for name in view_names():
        assert {path.stem for path in CASES if path.parent.name == name} == set(reports())


@pytest.mark.parametrize("name", reports())
def test_what_other_programs_read_is_well_formed(name: str) -> None:
    report = reports()[name]
    tree = ElementTree.fromstring(view("junit")(report, NOW))
    cases = list(tree.iter("testcase"))
    assert len(cases) == len(report.findings)
    told = {kind: len(list(tree.iter(kind))) for kind in ("failure", "error", "skipped")}
    assert told == {kind: int(tree.get(f"{kind}s" if kind != "skipped" else kind, "-1")) for kind in told}
    assert json.loads(view("json")(report, NOW))["summary"] == report.summary
    samples = [line for line in view("prom")(report, NOW).splitlines() if not line.startswith("#")]
    assert len(samples) == len(report.summary) + sum(one.is_open for one in report.findings) + 1
