"""The cases of tunables as data: files before, spec, what is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml
from support import FIXTURES, PlayedPrograms, session_of, tree, write_tree
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.host.files import Files

CASES = sorted((FIXTURES / "tunables").glob("*/*.yaml"))


def load(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    unknown = set(case) - {"files", "folders", "gpus", "units", "spec", "findings", "plan", "refused", "files_after"}
    assert not unknown, f"{path}: {unknown}"
    return case


def session_of_case(
    case: dict[str, Any], path: Path, root: Path, unreadable: dict[str, str] | None = None
) -> HostTuner:
    files = dict(case["files"])
    if "gpus" in case:
        files["tuneagent/gpus.json"] = msgspec.json.encode(case["gpus"]).decode()
    write_tree(root, files, case.get("folders", ()))
    programs = PlayedPrograms(root, case.get("units", {})) if "units" in case else None
    return session_of(tree(Files(str(root)), programs, unreadable), {path.parent.name: case["spec"]})


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"
