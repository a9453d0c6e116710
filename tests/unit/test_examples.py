"""The examples for Slurm, with tuneagent and scontrol played; the units of packaging."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def play(script: str, tmp_path: Path, code: int, output: str = "") -> subprocess.CompletedProcess[str]:
    """Run an example with a tuneagent that says `output` and exits with `code`."""
    for name, text in (
        ("tuneagent", f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\nprintf '%s\\n' '{output}'\nexit {code}\n"),
        ("scontrol", f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n'),
        ("hostname", "#!/bin/sh\necho node17\n"),
        ("sleep", "#!/bin/sh\n"),
    ):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
    text = (ROOT / "examples/slurm" / script).read_text().replace("/run/", f"{tmp_path}/")
    return subprocess.run(
        ["sh", "-c", text], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TUNEAGENT_PROFILE": "/p.yaml"},
    )  # fmt: skip


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (3, 1), (4, 0), (1, 1), (2, 1)])
def test_prolog_refuses_a_node_that_is_not_as_it_should_be(code: int, wanted: int, tmp_path: Path) -> None:
    assert play("prolog.sh", tmp_path, code).returncode == wanted
    assert (tmp_path / "asked").read_text().split() == ["audit", "-f", "/p.yaml", "--fail-on", "high"]


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (3, 0), (4, 0), (1, 1), (2, 1)])
def test_epilog_repairs_live_settings_alone(code: int, wanted: int, tmp_path: Path) -> None:
    assert play("epilog.sh", tmp_path, code).returncode == wanted
    assert "--max-disruption live" in (tmp_path / "asked").read_text()


def test_epilogs_of_two_jobs_wait_for_each_other(tmp_path: Path) -> None:
    busy = "/var/lib/tuneagent/lock: another tuneagent (pid 7) is at work on this host"
    assert play("epilog.sh", tmp_path, 1, busy).returncode == 1
    assert len((tmp_path / "asked").read_text().splitlines()) == 10
    (tmp_path / "asked").unlink()
    assert play("epilog.sh", tmp_path, 1, "another reason").returncode == 1
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_health_check_drains_with_the_finding_as_reason(tmp_path: Path) -> None:
    assert play("healthcheck.sh", tmp_path, 0).returncode == 0
    assert not (tmp_path / "scontrol.log").exists()
    finding = {
        "tunable": "gpuHealth",
        "verdict": "drifted",
        "severity": "critical",
        "inEffect": False,
        "advice": "too hot",
    }
    kept = {**finding, "subject": "gpu:1/notThis", "verdict": "not-persisted", "inEffect": True}
    lesser = {**finding, "subject": "gpu:1/norThis", "severity": "low"}
    report = {"findings": [kept, lesser, {**finding, "subject": "gpu:1/noThrottle"}, {**finding, "subject": "gpu:2/x"}]}
    assert play("healthcheck.sh", tmp_path, 3, json.dumps(report)).returncode == 0
    said = (tmp_path / "scontrol.log").read_text()
    assert "nodename=node17 state=drain" in said and "gpu:1/noThrottle: too hot and 1 more" in said


@pytest.mark.parametrize(
    "unit",
    sorted(path for path in (ROOT / "packaging").iterdir() if path.suffix in (".service", ".timer")),
    ids=lambda path: path.name,
)
def test_units_are_well_formed(unit: Path) -> None:
    # A key may be given again: systemd adds its values.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys of units keep their case
    parser.read(unit)
    assert "Unit" in parser and parser["Unit"]["Description"].startswith("tuneagent")
    assert ("Service" in parser) == unit.name.endswith(".service")
