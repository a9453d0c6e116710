"""support-bundle: what someone else needs to see to help, in one tar.gz.

Audit, plan and topology are those of the capture in it, not of the host: what it does not hold cannot be in them.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tuneagent import __version__
from tuneagent.capture import take, unpack
from tuneagent.errors import reason_of
from tuneagent.journal import Entry, Record
from tuneagent.node_selector import NodeSelector
from tuneagent.redaction import Pseudonyms, Redactor
from tuneagent.report.journal import journal_text
from tuneagent.report.picture import topology_text
from tuneagent.report.reference import profile_text
from tuneagent.report.text import plan_text, report_text
from tuneagent.session import Session
from tuneagent.topology_read import read_topology
from tuneagent.tunable import Tunable
from tuneagent.tuning_profile import Profile, builtin_names


def bundle(
    session: Session, profiles: list[Profile], registry: Mapping[str, Tunable[Any]], *, identifiers: bool
) -> bytes:
    """Audit, plan, journal, profile, topology and capture of a host. A part that fails is there as its error."""
    hide = Redactor(Pseudonyms(session.host, enabled=not identifiers))
    parts: dict[str, bytes] = {"README": _ABOUT.encode()}

    def add(name: str, make: Callable[[], str]) -> None:
        try:
            parts[name] = make().encode()
        except Exception as error:  # one part's trouble is that part's
            parts[name] = f"failed: {hide.sentence(reason_of(error))}".encode()

    # The profile too: what it wants is in every finding.
    spec = msgspec.structs.replace(
        session.profile.spec, tune=hide.tune(session.profile.spec.tune), accept=(), nodeSelector=NodeSelector()
    )
    shipped = builtin_names()
    profile = Profile(_name(session.profile.name, shipped, hide), spec)
    with tempfile.TemporaryDirectory(prefix="tuneagent-") as folder:
        capture = Path(folder, "capture.tar.gz")
        try:
            parts["capture.tar.gz"] = take(session.host, profiles, registry, identifiers=identifiers, hide=hide)
            capture.write_bytes(parts["capture.tar.gz"])
            copy = replace(session, host=unpack(str(capture), f"{folder}/tree"), profile=profile, is_strict=False)
        except Exception as error:
            parts["capture.txt"] = f"failed: {hide.sentence(reason_of(error))}".encode()
        else:
            add("audit.txt", lambda: report_text(copy.audit(), show_all=True, columns=200))
            add("audit.json", lambda: msgspec.json.format(msgspec.json.encode(copy.audit()), indent=1).decode())
            add("plan.txt", lambda: plan_text(copy.plan()[0], 200))
            add("topology.txt", lambda: topology_text(read_topology(copy.host)))
        add(
            "journal.txt",
            lambda: journal_text([_hidden(record, shipped, hide) for record in session.journal.records()]),
        )
        add("profile.yaml", lambda: profile_text(profile))
    return _packed(parts)


def _name(name: str, shipped: Collection[str], hide: Redactor) -> str:
    """The name of a profile: one that is shipped says nothing of anyone."""
    return name if name in shipped else hide.named("profile", name)


def _hidden(record: Record, shipped: Collection[str], hide: Redactor) -> Record:
    entries = [
        Entry(
            subject=hide.sentence(entry.subject),
            prior=hide.setting(entry.prior, tunable=record.tunable),
            wrote=hide.setting(entry.wrote, tunable=record.tunable),
            live=entry.live,
        )
        for entry in record.entries
    ]
    return msgspec.structs.replace(
        record,
        entries=tuple(entries),
        reason=hide.sentence(record.reason),
        profile=_name(record.profile, shipped, hide) if record.profile else "",
    )


_ABOUT = (
    f"Support bundle of tuneagent {__version__}.\n"
    "capture.tar.gz: `tuneagent --capture capture.tar.gz audit` shows what this host showed.\n"
    "Audit, plan and topology are made from it. Values that no row reads are replaced by their kind and length.\n"
    "Host names, UUIDs, MAC and IP addresses are replaced unless it was made with --with-identifiers.\n"
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
