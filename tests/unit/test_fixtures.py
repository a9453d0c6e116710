"""The fixtures agree with the code and with each other, and each of them is read by a test."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml
from cases import CASES, load
from support import FIXTURES
from tuneagent import __version__
from tuneagent.contracts.report import Verdict
from tuneagent.persist import boot_loaders
from tuneagent.report import views
from tuneagent.tunables import checks, gpu_health, kernel_files
from tuneagent.tunables.registry import registry
from tuneagent.tunables.tables.sysctl import ROWS as SYSCTL_ROWS

VERDICTS = {verdict.value for verdict in Verdict}
KEYS = {
    "hosts": {"capture.tar.gz", "tree.tar.gz", "expected.yaml", "machine.yaml", "profile.yaml", "nvml.json"},
    "views": {"empty.json", "every-verdict.json"},
}


def modules_of(package: ModuleType) -> set[str]:
    return {found.name for found in pkgutil.iter_modules(package.__path__)}


def test_every_folder_of_fixtures_has_its_test() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == {
        "boot_loaders", "hosts", "journals", "machines", "probes", "rows", "screens", "topologies", "tunables", "views",
    }  # fmt: skip


def test_cases_stand_for_what_the_code_has() -> None:
    assert {path.parent.name for path in CASES} == set(registry())
    assert {path.name for path in (FIXTURES / "boot_loaders").iterdir()} == modules_of(boot_loaders)
    kinds = {name.removeprefix("as_") for name in modules_of(views)}
    assert {path.name for path in (FIXTURES / "views").iterdir() if path.is_dir()} == kinds - {"text"}
    for name, rows in {
        "checks": checks.ROWS, "gpuHealth": gpu_health.ROWS, "kernelFiles": kernel_files.ROWS, "sysctl": SYSCTL_ROWS,
    }.items():  # fmt: skip
        assert set(yaml.safe_load((FIXTURES / "rows" / f"{name}.yaml").read_text())) == set(rows), name
    assert (FIXTURES / "journals" / f"{__version__}.yaml").exists(), "run tests/record_journal.py"


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_case_names_only_what_it_has(path: Path) -> None:
    case = load(path)
    subjects = [finding["subject"] for finding in case["findings"]]
    assert len(subjects) == len(set(subjects))
    assert {finding["verdict"] for finding in case["findings"]} <= VERDICTS
    assert {change["subject"] for change in case.get("plan", [])} <= set(subjects)
    assert set(case.get("refused", {})) <= set(subjects)
    # What is changed is there before, or is one of our own files.
    made = set(case.get("files_after") or {}) - set(case["files"])
    assert not [name for name in made if "tuneagent" not in name and not name.startswith(("etc/", "boot/"))], made


def _hosts() -> list[Path]:
    return sorted((FIXTURES / "hosts").iterdir())


@pytest.mark.parametrize("path", _hosts(), ids=lambda path: path.name)
def test_a_host_has_a_tree_and_what_is_expected_of_it(path: Path) -> None:
    names = {one.name for one in path.iterdir()}
    assert names <= KEYS["hosts"] and len(names & {"capture.tar.gz", "tree.tar.gz"}) == 1
    assert len(names & {"expected.yaml", "machine.yaml"}) == 1
    expected: Any = yaml.safe_load(
        (path / ("expected.yaml" if "expected.yaml" in names else "machine.yaml")).read_text()
    )
    findings = expected["findings"] if "findings" in expected else [one for part in expected.values() for one in part]
    assert {one["verdict"] for one in findings} <= VERDICTS
    assert {one["tunable"] for one in findings} <= set(registry())


@pytest.mark.parametrize("name", sorted(registry()))
def test_a_spec_refuses_names_that_it_does_not_know(name: str) -> None:
    # A sound spec is converted whole: one that took unknown names would let a mistyped setting pass.
    kind = registry()[name].spec_type
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        assert kind.__struct_config__.forbid_unknown_fields
