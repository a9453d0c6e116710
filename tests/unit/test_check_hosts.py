"""The command that compares topology and audit with facts of other people's machines, on a folder made here."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from machines import build
from support import write_tree

TOOL = Path(__file__).parents[2] / "tools/check_hosts.py"
FACTS = {
    "arch": "x86_64",
    "cpus_online": 8,
    "cores": 4,
    "smt": 2,
    "numa_nodes": [{"id": 0, "cpus": "0-1,4-5", "distances": [10, 21]}, {"id": 1, "cpus": "2-3,6-7"}],
    "pci_gpus": [{"address": "0000:1b:00.0", "class": "0302", "vendor": "10de", "numa_node": 1}],
}


def check(folder: Path, facts: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    write_tree(folder / "tree", build({"nodes": 2, "cores": 2, "smt": 2, "gpus": [1]}))
    with tarfile.open(folder / "made.tar.gz", "w:gz") as packed:
        for path in sorted((folder / "tree").iterdir()):
            packed.add(path, arcname=path.name)
    (folder / "made.json").write_text(json.dumps(facts))
    return subprocess.run([sys.executable, TOOL, folder], capture_output=True, text=True, check=False)


def test_facts_that_agree(tmp_path: Path) -> None:
    done = check(tmp_path, FACTS)
    assert done.returncode == 0, done.stdout
    assert "1 trees, 0 contradicted, 0 facts not known from the tree" in done.stdout


def test_a_fact_that_is_contradicted_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, {**FACTS, "smt": 1, "pci_gpus": []})
    assert done.returncode == 1
    assert "smt: 2, the facts say 1" in done.stdout and "pci_gpus: ['0000:1b:00.0']" in done.stdout


def test_a_folder_without_trees_is_no_success(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
