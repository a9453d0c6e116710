"""Imported TuneD profiles against TuneD itself, for every profile of Debian's package that it can apply here."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from machine import run, snapshot, sysctl_path

PEER = Path(__file__).parent / "tuned_peer.py"
PROFILES = sorted(path.parent for path in Path("/usr/lib/tuned").glob("*/tuned.conf"))
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def peer(mode: str, profile: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["/usr/bin/python3", PEER, mode, profile], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def kept() -> Iterator[set[str]]:
    """Keys that a test names are put back, and THP and drop-ins."""
    before = {str(path): path.read_text() for path in Path("/proc/sys/vm").iterdir() if _readable(path)}
    found = snapshot()
    thp = THP.read_text().partition("[")[2].partition("]")[0]
    values: dict[str, str] = {}
    keys_seen = _Keys(values)
    yield keys_seen
    for key, value in values.items():
        if sysctl_path(key).read_text() != value:
            sysctl_path(key).write_text(value)
    for name in ("dirty_ratio", "dirty_background_ratio"):
        path = f"/proc/sys/vm/{name}"
        if Path(path).read_text() != before[path]:
            Path(path).write_text(before[path])
    THP.write_text(thp)
    for name in ("/etc/sysctl.d/99-zz-tuneagent.conf", "/etc/tmpfiles.d/00-00-tuneagent.conf"):
        if name not in found:
            Path(name).unlink(missing_ok=True)


class _Keys(set[str]):
    """Keys whose value is noted when they are added."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__()
        self.values = values

    def add(self, key: str) -> None:
        super().add(key)
        if sysctl_path(key).exists():
            self.values.setdefault(key, sysctl_path(key).read_text())


def _readable(path: Path) -> bool:
    return path.is_file() and path.stat().st_mode & 0o400 != 0 and path.name not in ("stat_refresh",)


def test_every_profile_is_imported_and_agrees_with_tuned(kept: set[str], tmp_path: Path) -> None:
    if not PROFILES:
        pytest.skip("no TuneD profiles on this machine (package tuned)")
    applied, refused = [], []
    for folder in PROFILES:
        name = folder.name
        imported = run("profile", "import", "tuned", str(folder))
        assert imported.returncode == 0, imported.stderr
        file = tmp_path / f"{name}.yaml"
        file.write_text(imported.stdout)
        assert run("profile", "check", str(file)).returncode == 0, name
        tune = yaml.safe_load(imported.stdout)["spec"]["tune"]
        for key in tune.get("sysctl", {}):
            kept.add(key)
        theirs = peer("apply", name)
        assert theirs.stdout is not None and theirs.stdin is not None
        if theirs.stdout.readline().strip() != "APPLIED":
            refused.append(name)
            theirs.communicate(timeout=30)
            continue
        audit = run("audit", "-f", str(file), "-o", "json")
        theirs.communicate(timeout=30)
        found = json.loads(audit.stdout)["findings"]
        drifted = [one for one in found if one["verdict"] == "drifted" and not _is_of_another_plugin(one)]
        assert not drifted, (name, drifted)
        state = ("--state-dir", str(tmp_path / f"state-{name}"))
        ours = run(*state, "apply", "-f", str(file), "--yes", "-o", "json")
        # Only live changes are made; services, module options and the kernel line are withheld.
        assert {one["result"] for one in json.loads(ours.stdout)["results"]} <= {"verified", "withheld"}, (
            name,
            ours.stdout[-2000:],
        )
        checked = peer("verify", name)
        output, errors = checked.communicate(timeout=30)
        undone = run(*state, "undo")
        assert undone.returncode == 0, undone.stdout
        # What neither may set on this machine is named; everything else TuneD finds as it wants it.
        missing = [
            line for line in errors.splitlines() if "verify: failed" in line and not _is_left(line, imported.stdout)
        ]
        assert "VERIFIED" in output or not missing, (name, missing)
        applied.append(name)
    print(f"{len(applied)} profiles agree with TuneD; it cannot apply {', '.join(refused) or 'none'} here")
    assert len(applied) >= 20


def _is_of_another_plugin(finding: dict[str, str]) -> bool:
    """Whether a setting comes from a plug-in that tuned_peer.py leaves alone on this machine."""
    others = ("kernelArguments", "moduleOptions", "services", "irqbalance", "nvme")
    rows = ("file:schedMigrationCost", "file:selinuxCache", "file:platformProfile")
    return finding["tunable"] in others or finding["subject"] in rows


def _is_left(line: str, imported: str) -> bool:
    """Whether a failed line of TuneD's is among those that the import names as without a counterpart."""
    key = line.split("'")[1] if "'" in line else ""
    left = re.findall(r"^# no counterpart: [^:]*:\d+: ([^=]+)=", imported, re.MULTILINE)
    return bool(key) and any(fnmatch.fnmatchcase(key, pattern.strip()) for pattern in left)
