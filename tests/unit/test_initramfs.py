"""An initramfs that is older than modprobe.d: what the next boot has of a module's options is not known then."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Verdict
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.persist.initramfs import stale
from tuneagent.share.capture import take, unpack
from tuneagent.tunables.registry import registry

NOW, BOOTED = 1_800_000_000.0, 1_799_990_000.0
IMAGE, FILE = "boot/initrd.img-6.1.0-9-amd64", "etc/modprobe.d/x.conf"
FILES = {
    "proc/uptime": "10000.00 5.0\n", "proc/sys/kernel/osrelease": "6.1.0-9-amd64\n", IMAGE: "image\n", FILE: "options nvme poll_queues=4\n",
    "sys/module/nvme/parameters/poll_queues": "4\n",
}  # fmt: skip


def host(root: Path, ages: dict[str, float], files: dict[str, str] | None = None, source: str = "live") -> Host:
    write_tree(root, FILES if files is None else files)
    for path in root.rglob("*"):
        os.utime(path, (BOOTED - 9000, BOOTED - 9000))
    for path, age in ages.items():
        os.utime(root / path, (age, age))
    return msgspec.structs.replace(tree(Files(str(root))), source=source, now=lambda: NOW)


@pytest.mark.parametrize(
    ("ages", "told"),
    [
        ({IMAGE: NOW - 5, FILE: NOW - 9}, ""),
        ({IMAGE: BOOTED - 500, FILE: NOW - 9}, f"/{FILE} is newer than /{IMAGE}"),
        # What this boot has started with is proven, whatever the image holds.
        ({IMAGE: BOOTED - 500, FILE: BOOTED - 9}, ""),
        # A file that was taken away leaves its folder changed.
        ({IMAGE: BOOTED - 500, "etc/modprobe.d": NOW - 9}, f"/etc/modprobe.d is newer than /{IMAGE}"),
    ],
)
def test_the_age_of_an_initramfs(tmp_path: Path, ages: dict[str, float], told: str) -> None:
    found = stale(Facts(host(tmp_path, ages)))
    assert found.startswith(told) if told else found == ""


def test_where_there_is_none_or_its_age_is_not_known(tmp_path: Path) -> None:
    ages = {FILE: NOW - 9}
    without = {path: text for path, text in FILES.items() if path != IMAGE}
    assert stale(Facts(host(tmp_path / "none", ages, without))) == ""
    assert stale(Facts(host(tmp_path / "tree", ages, source="tree"))) == ""
    broken = {**FILES, "proc/uptime": "\n"}
    assert "is not known" in stale(Facts(host(tmp_path / "broken", ages, broken)))
    dracut = {**without, "boot/initramfs-6.1.0-9-amd64.img": ""}
    assert "/boot/initramfs-6.1.0-9-amd64.img" in stale(Facts(host(tmp_path / "dracut", ages, dracut)))


def test_an_option_is_unknown_behind_an_older_image_and_in_a_capture(tmp_path: Path) -> None:
    machine = host(tmp_path / "host", {IMAGE: BOOTED - 500, FILE: NOW - 9})
    session = session_of(machine, {"moduleOptions": {"nvme.poll_queues": 4}})
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.UNKNOWN and "rebuild it" in finding.advice
    os.utime(tmp_path / "host" / IMAGE, (NOW, NOW))
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.CONVERGED, finding.advice
    (tmp_path / "c.tar.gz").write_bytes(take(machine, [session.profile], registry(), identifiers=False))
    captured = session_of(unpack(str(tmp_path / "c.tar.gz"), str(tmp_path / "c")), session.profile.spec.tune)
    (finding,) = captured.observe().report.findings
    assert finding.verdict is Verdict.UNKNOWN and "in a capture" in finding.advice
