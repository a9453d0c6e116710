"""Captures that are none: each is refused with its reason, and nothing of it lands outside its folder."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.errors import ReadFailed
from tuneagent.host.files import Files
from tuneagent.report.audit_screen import host_lines
from tuneagent.report.findings import Invocation
from tuneagent.share import capture
from tuneagent.share.capture import FORMAT, take, unpack
from tuneagent.tunables.registry import registry


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def sound(root: Path) -> bytes:
    write_tree(root, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    session = session_of(tree(Files(str(root))), {"sysctl": {"vm.swappiness": 10}})
    return take(session.host, [session.profile], registry(), identifiers=False)


def with_manifest(data: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    members = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            stream = archive.extractfile(info)
            content = stream.read() if stream else b""
            if info.name == "manifest.json":
                content = msgspec.json.encode(change(msgspec.json.decode(content)))
            members.append((info, content))
    return archive_of(*members)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda data: b"", "not a valid capture"),
        (lambda data: data[: len(data) // 2], "not a valid capture"),
        (lambda data: data[:-8] + b"\0" * 8, "not a valid capture"),
        (lambda data: b"plain text\n", "not a valid capture"),
        (lambda data: gzip.compress(b"no archive at all, though zipped"), "not a valid capture"),
        (lambda data: archive_of(), "manifest.json"),
        (lambda data: archive_of((member("manifest.json"), b"{")), "manifest.json"),
        (lambda data: with_manifest(data, lambda _: []), "manifest.json"),
        (
            lambda data: with_manifest(data, lambda found: {**found, "format": "2099-01"}),
            f"this tuneagent reads '{FORMAT}'",
        ),
        (lambda data: with_manifest(data, lambda found: {**found, "commands": "none"}), "manifest.json"),
        (lambda data: archive_of((member("../escape"), b"x")), "leaves the capture"),
        (lambda data: archive_of((member("root/a/../../../escape"), b"x")), "leaves the capture"),
        (lambda data: archive_of((member("/escape"), b"x")), "leaves the capture"),
        (lambda data: archive_of((member("root/a", tarfile.SYMTYPE, "/etc/passwd"), b"")), "neither file nor folder"),
        (lambda data: archive_of((member("root/a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "neither file nor folder"),
        (lambda data: archive_of((member("root/a", tarfile.CHRTYPE), b"")), "neither file nor folder"),
        (lambda data: archive_of((member("root/a", tarfile.FIFOTYPE), b"")), "neither file nor folder"),
        (lambda data: archive_of((member("root/a"), b"x"), (member("root/a"), b"y")), "'root/a' cannot be unpacked"),
        (
            lambda data: archive_of((member("root/a"), b"x"), (member("root/a/b"), b"y")),
            "'root/a/b' cannot be unpacked",
        ),
        (lambda data: archive_of((member("root/a/b"), b"x"), (member("root/a"), b"y")), "'root/a' cannot be unpacked"),
        (lambda data: archive_of((member("root/" + "a" * 300), b"x")), "cannot be unpacked"),
        (lambda data: archive_of((member("."), b"x")), "cannot be unpacked"),
    ],
)
def test_what_is_no_capture_is_refused(wrong: Callable[[bytes], bytes], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.tar.gz"
    path.write_bytes(wrong(sound(tmp_path / "host")))
    (tmp_path / "in").mkdir()
    with pytest.raises(ReadFailed) as told:
        unpack(str(path), str(tmp_path / "in"))
    assert (reason in str(told.value) and "manifest.json" in str(told.value)) or str(path) in str(told.value)
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize(("limit", "value"), [("MEMBER_LIMIT", 2), ("SIZE_LIMIT_BYTES", 4096)])
def test_one_that_is_too_large_is_refused(
    limit: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.tar.gz"
    path.write_bytes(sound(tmp_path / "host"))
    monkeypatch.setattr(capture, limit, value)
    (tmp_path / "in").mkdir()
    with pytest.raises(ReadFailed, match=r"too large|larger than"):
        unpack(str(path), str(tmp_path / "in"))


def test_it_says_when_it_was_taken_also_from_another_capture(tmp_path: Path) -> None:
    (tmp_path / "c.tar.gz").write_bytes(sound(tmp_path / "tree"))
    host = unpack(str(tmp_path / "c.tar.gz"), str(tmp_path / "there"))
    again = take(host, [], registry(), identifiers=False)
    (tmp_path / "again.tar.gz").write_bytes(again)
    second = unpack(str(tmp_path / "again.tar.gz"), str(tmp_path / "again"))
    assert host.taken == second.taken == 1_800_000_000.0
    report = session_of(second, {"sysctl": {"vm.swappiness": 10}}).observe(with_machine=True).report
    line = "from the capture of 2027-01-15 08:00:00Z: a copy of the host's files, not the running host"
    assert host_lines(report, 200, Invocation())[1] == line


def test_a_sound_one_is_its_host(tmp_path: Path) -> None:
    path = tmp_path / "c.tar.gz"
    path.write_bytes(sound(tmp_path / "host"))
    (tmp_path / "in").mkdir()
    host = unpack(str(path), str(tmp_path / "in"))
    assert host.source == "capture" and host.files.read("proc/sys/vm/swappiness") == "60"
