"""The file layer: nothing leaves the root, nothing waits, and what is replaced keeps what it was but for its content."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import read_tree, session_of, tree, write_tree
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.values import Lifetime
from tuneagent.engine.host_tuner import STATE_FOLDER
from tuneagent.engine.journal_lines import encode
from tuneagent.errors import JournalError, PathMissing, ReadFailed, StateFolderUnsafe, TuneError, WriteFailed
from tuneagent.host import descriptors
from tuneagent.host.files import Files
from tuneagent.host.state_folder import StateFolder

LIMIT_S = 10.0
THP = "sys/kernel/mm/transparent_hugepage/enabled"


def in_time(act: Any) -> Any:
    """What `act` gives or raises; a failure where it waits."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(act())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert found, "it waits"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@pytest.mark.parametrize(
    ("links", "path", "wanted"),
    [
        ({"a": "/b"}, "a/x", "/b/x"),
        ({"a": "../../../b"}, "a/x", "/b/x"),
        ({"a": "/c", "c": "b"}, "a/x", "/b/x"),
        ({"b/y": "x"}, "b/y", "/b/x"),
        ({"b/y": "/b/../b/./x"}, "b/y", "/b/x"),
        ({"a": "b/.."}, "a/b/x", "/b/x"),
    ],
)
def test_links_resolve_inside_the_root(links: dict[str, str], path: str, wanted: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "root", {"b/x": "inside\n"})
    write_tree(tmp_path, {"b/x": "outside\n"})
    for name, target in links.items():
        (tmp_path / "root" / name).symlink_to(target)
    files = Files(str(tmp_path / "root"))
    assert files.resolved(path) == wanted and files.read(path) == "inside"
    files.replace(path, b"new\n")
    assert (tmp_path / "root/b/x").read_text() == "new\n" and (tmp_path / "b/x").read_text() == "outside\n"


def test_a_loop_and_a_missing_link_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "gone").symlink_to("/nowhere")
    files = Files(str(tmp_path))
    with pytest.raises(ReadFailed, match="symbolic links"):
        files.read("a")
    with pytest.raises(PathMissing):
        files.read("gone")
    assert not files.exists("gone") and not files.exists("a") and files.is_link("gone")
    with pytest.raises(ReadFailed, match="leaves its root"):
        files.read("../etc/passwd")


def test_a_folder_exchanged_for_a_link_while_it_is_used_changes_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"root/etc/sysctl.d/x": "old\n", "outside/x": "outside\n"})
    real = descriptors._temporary

    def exchanged(name: str) -> str:
        (tmp_path / "root/etc/sysctl.d").rename(tmp_path / "root/etc/moved")
        (tmp_path / "root/etc/sysctl.d").symlink_to(tmp_path / "outside")
        return real(name)

    monkeypatch.setattr(descriptors, "_temporary", exchanged)
    Files(str(tmp_path / "root")).replace("etc/sysctl.d/x", b"new\n")
    assert (tmp_path / "outside/x").read_text() == "outside\n" and len(list((tmp_path / "outside").iterdir())) == 1
    assert (tmp_path / "root/etc/moved/x").read_text() == "new\n"


@pytest.mark.parametrize("kind", ["hard link", "symbolic link", "pipe"])
def test_what_lies_at_the_name_of_a_temporary_is_left_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"root/x": "old\n", "victim": "victim\n"})
    monkeypatch.setattr(descriptors, "_temporary", lambda name: f".{name}.known.tuneagent")
    place = tmp_path / "root/.x.known.tuneagent"
    if kind == "hard link":
        os.link(tmp_path / "victim", place)
    elif kind == "symbolic link":
        place.symlink_to(tmp_path / "victim")
    else:
        os.mkfifo(place)
    with pytest.raises(WriteFailed, match="EEXIST"):
        in_time(lambda: Files(str(tmp_path / "root")).replace("x", b"new\n"))
    assert (tmp_path / "victim").read_text() == "victim\n" and (tmp_path / "root/x").read_text() == "old\n"


@pytest.mark.parametrize("name", ["journal.jsonl", "lock", "confirm.json", "journal.reserve"])
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder"])
def test_state_files_that_are_none_are_refused_at_once(name: str, kind: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "victim": "victim\n"}, ["etc/sysctl.d", STATE_FOLDER])
    (tmp_path / STATE_FOLDER).chmod(0o700)
    place = tmp_path / STATE_FOLDER / name
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(tmp_path / "victim")
    elif kind == "folder":
        place.mkdir()
    else:
        try:
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("needs the right to make devices")
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    before = (tmp_path / "proc/sys/vm/swappiness").read_text()
    act = session.pending if name == "confirm.json" else session.apply
    with pytest.raises(TuneError):
        in_time(act)
    assert (tmp_path / "proc/sys/vm/swappiness").read_text() == before
    assert (tmp_path / "victim").read_text() == "victim\n"


@pytest.mark.parametrize("trouble", ["mode", "owner", "link"])
def test_a_state_folder_that_others_can_write_is_refused(trouble: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n"}, ["etc/sysctl.d"])
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    session.apply()
    folder = tmp_path / STATE_FOLDER
    if trouble == "mode":
        folder.chmod(0o777)
    elif trouble == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(folder, 4711, 4711)
    else:
        folder.rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").chmod(0o777)
        folder.symlink_to("/elsewhere")
    fresh = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10}})
    with pytest.raises((StateFolderUnsafe, JournalError), match=r"others could have|who could have"):
        fresh.undo()
    assert (tmp_path / "proc/sys/vm/swappiness").read_text() == "10\n"
    # What is only read is read all the same.
    assert fresh.observe().report.findings[0].observed == 10


def forged(**change: Any) -> Record:
    subject = msgspec.convert(
        {"subject": "key:kernel.core_pattern", "prior": "|/bin/sh", "wrote": "core", **change}, SubjectRecord
    )
    return Record(
        step="intended", time=1.0, plan="p", tunable="sysctl", lifetime=Lifetime.BOOT, boot_id="b0", subjects=(subject,)
    )


@pytest.mark.parametrize(
    "record",
    [
        forged(),
        forged(subject="key:../../../etc/passwd"),
        forged(subject="key:vm.swappiness", wrote=60, dropInPrior={"kernel.core_pattern": "|/bin/sh"}),
        forged(
            subject="key:vm.swappiness", wrote=60, dropInPrior={"vm.swappiness": "1\nkernel.core_pattern = |/bin/sh"}
        ),
        msgspec.structs.replace(forged(subject="file:nosuch", wrote="core"), tunable="kernelFiles"),
        msgspec.structs.replace(forged(subject="node:../x", wrote=1), tunable="hugepages"),
        msgspec.structs.replace(forged(subject="unit:ssh.service", wrote={}), tunable="services"),
        msgspec.structs.replace(forged(subject="arg:init", wrote="core"), tunable="kernelArguments"),
        msgspec.structs.replace(forged(subject="option:evil.path", wrote="core"), tunable="moduleOptions"),
        msgspec.structs.replace(forged(subject="unit:kubelet.service", wrote="0"), tunable="cgroupSlices"),
    ],
    ids=lambda record: f"{record.tunable} {record.subjects[0].subject} {len(record.subjects[0].drop_in_prior)}",
)
@pytest.mark.parametrize("step", ["intended", "verified"])
def test_a_forged_record_writes_nothing(record: Record, step: str, tmp_path: Path) -> None:
    files = {
        "proc/sys/kernel/core_pattern": "core\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/sys/kernel/random/boot_id": "b0\n",
        "etc/passwd": "root\n",
    }
    write_tree(tmp_path, files, ["etc/sysctl.d", STATE_FOLDER])
    (tmp_path / STATE_FOLDER).chmod(0o700)
    before = read_tree(tmp_path)
    lines = [record] if step == "intended" else [record, msgspec.structs.replace(record, step="verified")]
    (tmp_path / STATE_FOLDER / "journal.jsonl").write_bytes(b"".join(encode(one) for one in lines))
    results = session_of(tree(Files(str(tmp_path))), {}).undo(force=True)
    assert results and not any(one.is_settled for one in results), results
    assert any("no tuneagent wrote this record" in one.reason for one in results), results
    assert read_tree(tmp_path) == before


def test_owner_mode_and_attributes_of_a_replaced_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old\n")
    path.chmod(0o640)
    attributes: dict[str, bytes] = {}
    try:
        os.setxattr(path, "user.note", b"kept")
        attributes["user.note"] = b"kept"
    except OSError:
        pass
    if os.geteuid() == 0:
        os.chown(path, 4711, 4712)
    before = path.stat()
    Files(str(tmp_path)).replace("x", b"new\n")
    after = path.stat()
    assert path.read_text() == "new\n" and after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert {name: os.getxattr(path, name) for name in attributes} == attributes


def test_a_plain_file_is_old_or_new_and_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("old\n")

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(descriptors, "_write_whole", full)
    with pytest.raises(WriteFailed, match="ENOSPC") as told:
        Files(str(tmp_path)).write("x", "new\n")
    assert told.value.is_full and (tmp_path / "x").read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_values_go_back_byte_for_byte(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {"proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n", "proc/sys/vm/swappiness": " 60\n"},
        ["etc/sysctl.d"],
    )
    before = read_tree(tmp_path)
    session = session_of(
        tree(Files(str(tmp_path))), {"sysctl": {"net.ipv4.tcp_rmem": "4096 262144 67108864", "vm.swappiness": 10}}
    )
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    session.undo()
    assert read_tree(tmp_path) == before


@pytest.mark.parametrize("someone", [False, True])
def test_a_folder_of_drop_ins_is_made_with_the_file_and_goes_with_it(someone: bool, tmp_path: Path) -> None:
    write_tree(tmp_path, {THP: "[always] madvise never\n", "usr/bin/systemd-tmpfiles": ""}, ["etc"])
    session = session_of(tree(Files(str(tmp_path))), {"transparentHugepages": {"enabled": "madvise"}})
    before = os.umask(0o077)
    try:
        assert {one.result for one in session.apply().outcomes} == {"verified"}
    finally:
        os.umask(before)
    folder = tmp_path / "etc/tmpfiles.d"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "00-00-tuneagent.conf").stat().st_mode) == 0o644
    assert session.observe().report.summary["converged"] == 1
    if someone:
        (folder / "theirs.conf").write_text("")
    assert all(one.is_settled for one in session.undo())
    assert [path.name for path in (tmp_path / "etc").rglob("*")] == (["tmpfiles.d", "theirs.conf"] if someone else [])


def test_where_nothing_reads_a_folder_it_is_not_made_and_that_is_said(tmp_path: Path) -> None:
    write_tree(tmp_path, {THP: "always [madvise] never\n"}, ["etc"])
    session = session_of(tree(Files(str(tmp_path))), {"transparentHugepages": {"enabled": "madvise"}})
    (finding,) = session.observe().report.findings
    assert finding.verdict.value == "not-persisted" and finding.cannot_persist is not None
    assert (
        "no /etc/tmpfiles.d and no systemd-tmpfiles on this host" in finding.cannot_persist
        and finding.cannot_persist in finding.advice
    )
    assert not session.observe().plan.changes


class SmallDisk(Files):
    """A state folder on a disk of so many bytes, which other files may fill up."""

    def __init__(self, root: str, size: int) -> None:
        super().__init__(root)
        self.size = size

    def used(self) -> int:
        folder = Path(self.root, STATE_FOLDER)
        return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        if path.startswith(STATE_FOLDER) and self.used() + len(data) > self.size:
            raise WriteFailed(f"/{path}: ENOSPC No space left on device", is_full=True)
        super().append(path, data, sync=sync)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> type[SmallDisk]:
    real = StateFolder.reserve

    def reserve(state: StateFolder, name: str, size: int) -> None:
        assert isinstance(state.files, SmallDisk)
        held = state.stamp(name)
        if state.files.used() - (held[1] if held else 0) + size > state.files.size:
            raise WriteFailed(f"{state.path(name)}: ENOSPC No space left on device", is_full=True)
        real(state, name, size)

    monkeypatch.setattr(StateFolder, "reserve", reserve)
    return SmallDisk


KEYS = ("swappiness", "stat_interval", "vfs_cache_pressure", "page-cluster", "max_map_count", "watermark_scale_factor")


def test_undo_fits_on_a_disk_that_filled_up_after_the_apply(small_disk: type[SmallDisk], tmp_path: Path) -> None:
    write_tree(tmp_path, {f"proc/sys/vm/{key}": "1\n" for key in KEYS}, ["etc/sysctl.d"])
    before = read_tree(tmp_path)
    files = small_disk(str(tmp_path), 10_000_000)
    session = session_of(tree(files), {"sysctl": {f"vm.{key}": 2 for key in KEYS}})
    assert {one.result for one in session.apply().outcomes} == {"verified"}
    files.size = files.used()
    results = session.undo()
    assert {one.result for one in results} == {"undone"}, results
    assert read_tree(tmp_path) == before and not session.journal.applied()
    assert not (tmp_path / STATE_FOLDER / "journal.reserve").exists()


@pytest.mark.parametrize("size", range(0, 120_000, 8_000))
def test_a_disk_that_is_too_small_for_a_plan_is_found_before_its_first_write(
    size: int, small_disk: type[SmallDisk], tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"proc/sys/vm/{key}": "1\n" for key in KEYS}, ["etc/sysctl.d"])
    before = read_tree(tmp_path)
    session = session_of(tree(small_disk(str(tmp_path), size)), {"sysctl": {f"vm.{key}": 2 for key in KEYS}})
    try:
        outcomes = session.apply().outcomes
    except JournalError as error:
        assert "nothing was begun" in str(error)
        assert read_tree(tmp_path) == before
    else:
        assert {one.result for one in outcomes} == {"verified"}
        assert {one.result for one in session.undo()} == {"undone"}
        assert read_tree(tmp_path) == before
