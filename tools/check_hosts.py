"""Runs topology and audit on a folder of captured host trees and prints what differs from the facts beside them.

    tools/check_hosts.py FOLDER

FOLDER holds NAME.tar.gz (the root of a host) and NAME.json (its facts). Only facts that a file states are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIME_LIMIT_S = 60
SCALARS = ("arch", "cpus_online", "cpulist_online", "cpulist_possible", "packages", "cores", "smt", "l3_groups")
NODE_FIELDS = ("cpus", "memory_kib", "distances", "hugepages")
DEVICE_FIELDS = ("class", "vendor", "device", "numa_node", "local_cpus")
COMMAND = [sys.executable, "-m", "tuneagent"]


def differences(facts: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """One line for each fact that our picture contradicts, or leaves as null; the latter starts with `null`."""
    for name in SCALARS:
        if name in facts and found[name] is None:
            yield f"null {name}: the facts say {facts[name]!r}"
        elif name in facts and found[name] != facts[name]:
            yield f"{name}: {found[name]!r}, the facts say {facts[name]!r}"
    for name, key, fields in (
        ("numa_nodes", "id", NODE_FIELDS),
        ("pci_gpus", "address", DEVICE_FIELDS),
        ("nics", "address", DEVICE_FIELDS),
    ):
        if name not in facts:
            continue
        ours = {one[key]: one for one in found[name] or ()}
        theirs = {one[key]: one for one in facts[name]}
        if set(ours) != set(theirs):
            yield f"{name}: {sorted(ours)}, the facts say {sorted(theirs)}"
        for identity in sorted(set(ours) & set(theirs)):
            for field in fields:
                if field not in theirs[identity] or ours[identity][field] == theirs[identity][field]:
                    continue
                null = "null " if ours[identity][field] is None else ""
                yield f"{null}{name} {identity} {field}: {ours[identity][field]!r}, not {theirs[identity][field]!r}"


def run(root: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `tuneagent --root ROOT ...`; -1 for one that took too long."""
    argv = [*COMMAND, "--root", root, *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer in {TIME_LIMIT_S} s"
    return done.returncode, done.stdout, done.stderr


def check(archive: Path, folder: str) -> list[str]:
    """What is wrong with one tree."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="tar")
    facts = json.loads(archive.with_name(archive.name.replace(".tar.gz", ".json")).read_text())
    problems = []
    code, out, err = run(folder, "topology", "-o", "json")
    if code != 0 or "Traceback" in err:
        problems.append(f"topology: exit {code}: {err.strip()[-300:]}")
    else:
        problems += differences(facts, json.loads(out))
    before = sum(len(files) for _, _, files in os.walk(folder))
    for profile in ("generic", "training"):
        code, _, err = run(folder, "audit", "-p", profile, "-o", "json")
        if code not in (0, 3, 4) or "Traceback" in err:
            problems.append(f"audit {profile}: exit {code}: {err.strip()[-300:]}")
    if sum(len(files) for _, _, files in os.walk(folder)) != before:
        problems.append("audit: wrote into the tree")
    return problems


def main() -> int:
    """Check every tree of the folder given."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__)
        return 2
    archives = sorted(Path(sys.argv[1]).glob("*.tar.gz"))
    wrong = unknown = 0
    for archive in archives:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            problems = check(archive, folder)
        wrong += any(not problem.startswith("null ") for problem in problems)
        unknown += sum(problem.startswith("null ") for problem in problems)
        print(f"{archive.name.removesuffix('.tar.gz')}: {time.monotonic() - started:.1f} s")
        for problem in problems:
            print(f"  {problem[:400]}")
    print(f"{len(archives)} trees, {wrong} contradicted, {unknown} facts not known from the tree")
    return int(wrong > 0 or not archives)


if __name__ == "__main__":
    sys.exit(main())
