"""`profile new`, and the schema by which editors check profiles."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from captured_hosts import HOSTS
from click.testing import CliRunner
from tuneagent.commands.main import cli
from tuneagent.contracts.report import GpuName, HostName
from tuneagent.profile_files.resolve import builtin_names
from tuneagent.report.starting_profile import starting_profile

HEAD = {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "TuningProfile", "metadata": {"name": "t"}}


def schema() -> Any:
    return json.loads((importlib.resources.files("tuneagent.contracts") / "schemas/profile.schema.json").read_text())


def test_the_schema_is_one_and_takes_what_is_shipped() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    folder = importlib.resources.files("tuneagent.profile_files") / "builtin"
    for name in builtin_names():
        jsonschema.validate(yaml.safe_load((folder / f"{name}.yaml").read_text()), schema())


@pytest.mark.parametrize(
    "spec",
    [
        {"drift": "fix"}, {"extend": ["training"]}, {"tune": {"cpuGovenor": {}}}, {"tune": {"dirtyPages": {"bytes": "4GiB"}}},
        {"tune": {"transparentHugepages": {"enabled": "allways"}}}, {"tune": {"checks": {"noSuchCheck": True}}},
        {"tune": {"hugepages": {"pages": [{"size": "2Mi", "perNode": 1}]}}}, {"rollout": {"canary": -1}},
    ],
    ids=str,
)  # fmt: skip
def test_an_editor_sees_faults_by_the_schema(spec: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**HEAD, "spec": spec}, schema())
    jsonschema.validate({**HEAD, "spec": {"tune": {"sysctl": None}}}, schema())


def test_a_starting_profile_is_valid_and_names_the_gpus_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    capture = str(HOSTS / "h100-live/capture.tar.gz")
    made = CliRunner().invoke(cli, ["profile", "new", "--capture", capture, "mine"])
    assert (
        made.exit_code == 0
        and "# For vm: 1 x NVIDIA H100 80GB HBM3, driver 580.159.04, 16 CPUs, 125.9 GiB.\n" in made.stdout
    )
    path.write_text(made.stdout)
    assert CliRunner().invoke(cli, ["profile", "check", str(path)]).exit_code == 0
    jsonschema.validate(yaml.safe_load(made.stdout), schema())
    assert made.stdout.splitlines()[0].startswith("# yaml-language-server: $schema=/")
    # What stands in comments is valid too.
    gpu = next(line for line in made.stdout.splitlines() if line.startswith("    #     GPU-"))
    assert gpu.endswith("{}  # NVIDIA H100 80GB HBM3")
    for comment in ("drift: repair", "hugepages:", "reservedCpus:", "accept:"):
        line = next(line for line in made.stdout.splitlines() if f"# {comment}" in line)
        path.write_text(made.stdout.replace(line, line.replace("# ", "", 1)))
        assert CliRunner().invoke(cli, ["profile", "check", str(path)]).exit_code == 0, comment


def test_a_host_without_gpus_and_with_several_nodes() -> None:
    text = starting_profile("x", HostName(name="n\x1b1", gpus=(), cpus=4), 2, "/s.json")
    assert (
        "# For n?1: no NVIDIA GPU, 4 CPUs.\n" in text
        and "on each of 2 NUMA nodes" in text
        and "mig" not in text.split("tune:")[1]
    )
    two = HostName(gpus=(GpuName(0, "GPU-1", "A"), GpuName(1, "GPU-2", None)), driver="1")
    assert "    #     GPU-2: {}  # unknown\n" in starting_profile("x", two, 1, "/s.json")


def test_a_name_that_is_none_is_refused() -> None:
    refused = CliRunner().invoke(cli, ["profile", "new", "Not_A_Name"])
    assert refused.exit_code == 2 and "'Not_A_Name' is not a DNS label" in refused.stderr
