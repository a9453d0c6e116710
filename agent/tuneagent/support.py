"""support-bundle: what someone else needs to see to help, in one tar.gz, with identifiers replaced."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

import msgspec

from tuneagent import __version__
from tuneagent.capture import Pseudonyms, take
from tuneagent.errors import ReadFailed, TuneError
from tuneagent.report.journal import journal_text
from tuneagent.report.picture import topology_text
from tuneagent.report.reference import profile_text
from tuneagent.report.text import plan_text, report_text
from tuneagent.session import Session
from tuneagent.topology_read import read_topology
from tuneagent.tunable import Tunable
from tuneagent.tuning_profile import Profile


def bundle(
    session: Session, profiles: list[Profile], registry: Mapping[str, Tunable[Any]], *, identifiers: bool
) -> bytes:
    """Audit, plan, journal, profile, topology and capture of a host. A part that fails is there as its error."""
    hide = Pseudonyms(session.host, enabled=not identifiers)
    parts: dict[str, bytes] = {"README": _ABOUT.encode()}

    def add(name: str, make: Any) -> None:
        try:
            text = make()
        except TuneError as error:
            text = f"failed: {error}"
        parts[name] = text if isinstance(text, bytes) else hide.text(text).encode()

    add("audit.txt", lambda: report_text(session.audit(), show_all=True, columns=200))
    add("audit.json", lambda: msgspec.json.format(msgspec.json.encode(session.audit()), indent=1).decode())
    add("plan.txt", lambda: plan_text(session.plan()[0], 200))
    add("journal.txt", lambda: journal_text(session.journal.records()))
    add("profile.yaml", lambda: profile_text(session.profile))
    add("topology.txt", lambda: topology_text(read_topology(session.host)))
    try:
        parts["capture.tar.gz"] = take(session.host, profiles, registry, identifiers=identifiers)
    except ReadFailed as error:
        parts["capture.txt"] = f"failed: {error}".encode()
    return _packed(parts)


_ABOUT = (
    f"Support bundle of tuneagent {__version__}.\n"
    "capture.tar.gz: `tuneagent --capture capture.tar.gz audit` shows what this host showed.\n"
    "Host names, UUIDs, MAC and IP addresses are replaced unless it was made with --with-identifiers.\n"
)


def _packed(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(parts):
            member = tarfile.TarInfo(f"tuneagent-support/{name}")
            member.size = len(parts[name])
            archive.addfile(member, io.BytesIO(parts[name]))
    return buffer.getvalue()
