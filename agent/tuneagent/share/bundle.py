"""support-bundle: what someone else needs to see to help, in one tar.gz.

Audit, plan and topology are those of the capture in it, not of the host: what it does not hold cannot be in them.
"""

from __future__ import annotations

import functools
import io
import tarfile
from collections.abc import Callable, Collection, Mapping

import msgspec

from tuneagent import __version__
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.node_selector import NodeSelector
from tuneagent.contracts.plan import Plan
from tuneagent.contracts.report import Report
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.errors import reason_of
from tuneagent.host.files import Files
from tuneagent.host.paths import temporary_folder
from tuneagent.profile_files.document import Profile
from tuneagent.profile_files.resolve import builtin_names
from tuneagent.share.capture import take, unpack
from tuneagent.share.redaction import Pseudonyms, Redactor
from tuneagent.topology.picture import Topology
from tuneagent.topology.read import read_topology
from tuneagent.tunables.base import AnyTunable


class Views(msgspec.Struct, frozen=True):
    """How each part is written for people; the views belong to a room above this one."""

    report: Callable[[Report], str]
    plan: Callable[[Plan], str]
    topology: Callable[[Topology], str]
    journal: Callable[[list[Record]], str]
    profile: Callable[[Profile], str]


def bundle(
    tuner: HostTuner,
    profiles: list[Profile],
    registry: Mapping[str, AnyTunable],
    views: Views,
    *,
    identifiers: bool,
) -> bytes:
    """Audit, plan, journal, profile, topology and capture of a host. A part that fails is there as its error."""
    hide = Redactor(Pseudonyms(tuner.host, enabled=not identifiers))
    parts: dict[str, bytes] = {"README": _ABOUT.encode()}

    def add(name: str, make: Callable[[], str]) -> None:
        try:
            parts[name] = make().encode()
        except Exception as error:  # a part that fails must not stop the others
            parts[name] = f"failed: {hide.sentence(reason_of(error))}".encode()

    # The profile too: what it wants is in every finding.
    spec = msgspec.structs.replace(
        tuner.profile.spec, tune=hide.tune(tuner.profile.spec.tune), accept=(), node_selector=NodeSelector()
    )
    shipped = builtin_names()
    profile = Profile(_name(tuner.profile.name, shipped, hide), spec)
    with temporary_folder() as folder:
        try:
            parts["capture.tar.gz"] = take(tuner.host, profiles, registry, identifiers=identifiers, hide=hide)
            Files(folder).create("capture.tar.gz", parts["capture.tar.gz"])
            unpacked = unpack(f"{folder}/capture.tar.gz", f"{folder}/tree")
            copy = msgspec.structs.replace(tuner, host=unpacked, profile=profile, is_strict=False)
            found = functools.cache(copy.observe)
        except Exception as error:
            parts["capture.txt"] = f"failed: {hide.sentence(reason_of(error))}".encode()
        else:
            add("audit.txt", lambda: views.report(found().report))
            add("audit.json", lambda: msgspec.json.format(msgspec.json.encode(found().report), indent=1).decode())
            add("plan.txt", lambda: views.plan(found().plan))
            add("topology.txt", lambda: views.topology(read_topology(copy.host)))
        add(
            "journal.txt",
            lambda: views.journal([_hidden(record, shipped, hide) for record in tuner.journal.records()]),
        )
        add("profile.yaml", lambda: views.profile(profile))
    return _packed(parts)


def _name(name: str, shipped: Collection[str], hide: Redactor) -> str:
    """The name of a profile: one that is shipped identifies nobody."""
    return name if name in shipped else hide.named("profile", name)


def _hidden(record: Record, shipped: Collection[str], hide: Redactor) -> Record:
    subjects = [
        SubjectRecord(
            subject=hide.sentence(one.subject),
            prior=hide.setting(one.prior, tunable=record.tunable),
            wrote=hide.setting(one.wrote, tunable=record.tunable),
            live=one.live,
        )
        for one in record.subjects
    ]
    return msgspec.structs.replace(
        record,
        subjects=tuple(subjects),
        reason=hide.sentence(record.reason),
        profile=_name(record.profile, shipped, hide) if record.profile else "",
    )


_ABOUT = (
    f"Support bundle of tuneagent {__version__}.\n"
    "capture.tar.gz: `tuneagent --capture capture.tar.gz audit` shows what this host showed.\n"
    "Audit, plan and topology are made from it. Values that no row reads are replaced by their kind and length.\n"
    "Host names, UUIDs, MAC and IP addresses are replaced unless the bundle was made with --with-identifiers.\n"
)


def _packed(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(parts):
            member = tarfile.TarInfo(f"tuneagent-support/{name}")
            member.size = len(parts[name])
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(parts[name]))
    return buffer.getvalue()
