"""Captures: what an audit reads of a machine, packed so that it can be audited elsewhere.

A tar.gz with `manifest.json`, the files read under `root/`, answers of programs, and the GPU snapshot.
What is in them is what rows read, and nothing else (`redaction`).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

import msgspec

from tuneagent.contracts.capture_manifest import FORMAT, Manifest
from tuneagent.engine.observe import observe
from tuneagent.errors import PathMissing, ReadFailed, TuneError, WriteFailed
from tuneagent.facts.kubelet import own_places
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.unit_commands import variable_files
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.gpu.ask import RECORDED_PATH, read_gpus, record
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.host.paths import read_whole
from tuneagent.host.processes import NoProcesses
from tuneagent.host.recording import CaptureFiles, RecordedExec, RecordingExec, RecordingFiles
from tuneagent.persist.boot_texts import called_scripts
from tuneagent.persist.other_writers import doubt, namer
from tuneagent.profile_files.document import Profile
from tuneagent.share.redaction import Asked, Pseudonyms, Redactor
from tuneagent.topology.read import read_topology
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import specs_of

MEMBER_LIMIT = 50_000
SIZE_LIMIT_BYTES = 256 * 1024 * 1024
# Read besides what the tunables read, so that rows added later find something in older captures.
EXTRA_FOLDERS = ("proc/sys/vm", "proc/sys/net/core", "sys/kernel/mm/transparent_hugepage", "sys/devices/system/cpu/smt")
EXTRA_FILES = (
    "proc/cmdline", "proc/meminfo", "proc/interrupts", "proc/swaps", "proc/mounts", "proc/1/limits", "proc/cpuinfo",
    "proc/sys/kernel/hostname", "proc/sys/kernel/osrelease", "proc/sys/kernel/arch", "proc/sys/kernel/random/boot_id",
    "etc/os-release", "sys/module/nvidia/version",
)  # fmt: skip
# Files that change between two reads of one machine, or that a read itself changes.
_SKIPPED = lazy_regex(r"proc/sys/vm/(stat_refresh|compact_memory|drop_caches|mmap_rnd.*)\Z")


def take(
    host: Host,
    profiles: list[Profile],
    registry: Mapping[str, AnyTunable],
    *,
    identifiers: bool,
    hide: Redactor | None = None,
) -> bytes:
    """Capture a host: everything that audits of these profiles and the topology read of it.

    `hide` is a redactor whose pseudonyms other parts use too.
    """
    files, programs = RecordingFiles(host.files.root), RecordingExec(host.exec)
    watched = Host(files, programs, host.processes, host.source, host.host_pid, host.now, host.unreadable)
    asked = [_observe_all(Facts(watched, specs_of(profile, registry)), registry) for profile in profiles]
    read_topology(watched)
    for path in EXTRA_FILES:
        watched.observe(path)
    for folder in EXTRA_FOLDERS:
        for name in files.names(folder):
            path = f"{folder}/{name}"
            if not _SKIPPED.match(path) and not files.is_dir(path):
                watched.observe(path)
    hide = hide or Redactor(Pseudonyms(host, enabled=not identifiers))
    files.leave_out(place for one in asked for place in one.unplaced)
    paths = [*files.content, *files.absent, *files.failed, *files.folders, *host.absent]
    hide.learn(paths, _together(asked))
    manifest = Manifest(
        taken=host.taken if host.source == "capture" else host.now(),
        identifiers=identifiers,
        namespaces={kind: host.namespace_is_hosts(kind) for kind in ("net", "ipc")},
        absent=tuple(sorted(hide.path(path) for path in files.absent | host.absent)),
        unreadable={hide.path(path): hide.sentence(error, path) for path, error in files.failed.items()},
        commands={
            argv: (done.code, hide.answer(argv, done.stdout), hide.sentence(done.stderr))
            for argv, done in programs.answers.items()
        },
    )
    content = {
        hide.path(path): hide.content(path, data) for path, data in files.content.items() if not _SKIPPED.match(path)
    }
    content[RECORDED_PATH] = hide.content(RECORDED_PATH, record(read_gpus(host)))
    # Of a folder of its owner's choice only what is in it is told, under another name.
    own = {path.rpartition("/")[0] for one in asked for path in (*one.scripts, *one.variables)}
    known = files.folders - (own - {path.rpartition("/")[0] for path in content})
    folders, runnable = ({hide.path(path) for path in found} for found in (known, files.programs))
    return _pack(manifest, content, folders, runnable)


class _Seen(NamedTuple):
    """What audits of one profile asked for: scripts, files of variables, and the files that settings were read from.

    `unplaced` lie where a capture does not tell: a kubelet's configuration in a folder of its owner's choice.
    """

    scripts: frozenset[str]
    variables: frozenset[str]
    evidence: frozenset[str]
    unplaced: frozenset[str]


def _observe_all(facts: Facts, registry: Mapping[str, AnyTunable]) -> _Seen:
    """What an audit reads, and what it would read too if every value were as wanted."""
    evidence = set()
    for one in observe(facts, registry):
        for reading in one.readings.values() if one.tunable.drop_in is not None else ():
            evidence.add(reading.evidence)
            with contextlib.suppress(TuneError):
                doubt(facts, reading.evidence, own=reading.own)
    scripts = frozenset[str]()
    with contextlib.suppress(TuneError):
        scripts = called_scripts(facts)
    unplaced: list[str] = []
    with contextlib.suppress(TuneError):
        unplaced = own_places(facts)
    return _Seen(scripts, frozenset(variable_files(facts)), frozenset(evidence), frozenset(unplaced))


def _together(seen: Sequence[_Seen]) -> Asked:
    return Asked(
        frozenset(path for one in seen for path in one.scripts),
        frozenset(path for one in seen for path in one.variables),
        namer({path for one in seen for path in one.evidence}),
    )


def _pack(manifest: Manifest, content: Mapping[str, bytes], folders: set[str], runnable: set[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:

        def put(name: str, data: bytes | None) -> None:
            member = tarfile.TarInfo(name)
            member.mode = 0o755 if data is None or name.removeprefix("root/") in runnable else 0o644
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            archive.addfile(member, io.BytesIO(data) if data is not None else None)

        put("manifest.json", msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))
        for folder in sorted(folders - set(content)):
            put(f"root/{folder}", None)
        for path in sorted(content):
            put(f"root/{path}", content[path])
    return buffer.getvalue()


def _unzipped(path: str) -> bytes:
    """The whole archive, so that its checksum is compared before anything in it is trusted."""
    with gzip.GzipFile(fileobj=io.BytesIO(read_whole(path, SIZE_LIMIT_BYTES))) as handle:
        data = handle.read(SIZE_LIMIT_BYTES + 1)
        if len(data) > SIZE_LIMIT_BYTES:
            raise ReadFailed(f"{path}: too large for a capture")
        return data


def _put(target: Files, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
    """One member as a new file or folder."""
    if member.isdir():
        target.make_folder(member.name, 0o755)
    else:
        target.make_folder(member.name.rpartition("/")[0] or ".", 0o755)
        target.create(member.name, content.read() if content else b"", 0o755 if member.mode & 0o100 else 0o644)


def unpack(path: str, folder: str) -> Host:
    """The host of a capture, its tree unpacked into `folder`. Raises ReadFailed for what is not a valid capture."""
    target = Files(folder)
    try:
        with tarfile.open(fileobj=io.BytesIO(_unzipped(path)), mode="r:") as archive:
            total = 0
            for number, member in enumerate(archive):
                total += member.size
                if number > MEMBER_LIMIT or total > SIZE_LIMIT_BYTES:
                    raise ReadFailed(f"{path}: too large for a capture")
                parts = member.name.split("/")
                if ".." in parts or member.name.startswith("/") or "\0" in member.name:
                    raise ReadFailed(f"{path}: member {member.name!r} leaves the capture")
                if not member.isdir() and not member.isreg():
                    raise ReadFailed(f"{path}: member {member.name!r} is neither file nor folder")
                try:
                    _put(target, member, archive.extractfile(member))
                except (OSError, WriteFailed) as error:
                    raise ReadFailed(f"{path}: member {member.name!r} cannot be unpacked: {error}") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise ReadFailed(f"{path}: not a valid capture: {error}") from None
    try:
        manifest = msgspec.json.decode(target.read("manifest.json"), type=Manifest)
    except PathMissing:
        raise ReadFailed(f"{path}: not a valid capture: it holds no manifest.json") from None
    except msgspec.MsgspecError as error:
        raise ReadFailed(f"{path}: manifest.json: {error}") from None
    if manifest.format != FORMAT:
        raise ReadFailed(f"{path}: format {manifest.format!r}, this tuneagent reads {FORMAT!r}")
    answers = {argv: Completed(*answer) for argv, answer in manifest.commands.items()}
    return Host(
        CaptureFiles(f"{folder}/root", manifest.unreadable),
        RecordedExec(answers),
        NoProcesses(),
        source="capture",
        taken=manifest.taken,
        unreadable=manifest.unreadable,
        absent=frozenset(manifest.absent),
        namespaces=manifest.namespaces,
    )
