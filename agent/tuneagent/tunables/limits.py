"""limits: how much a service or login may lock in memory, and how many files it may open (systemd-system.conf(5)).

Written for the next boot: a reload of systemd at run time takes the GPUs from containers (nvidia-container-toolkit
issue 48), and running processes keep their limits anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import (
    About,
    Absent,
    Disruption,
    Lifetime,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.service_limits import service_limit
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.limits_conf import for_everyone
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.folders import by_precedence
from tuneagent.persist.systemd_d import LimitFiles, manager_settings
from tuneagent.tunables.base import Tunable

_NAMES = ("memlock", "nofile", "stack", "nproc")
_IN_BYTES = ("memlock", "stack")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes, counts, or `infinity`, each a minimum: a higher limit that services or logins already have stays."""

    memlock: int | str | None = None
    nofile: int | str | None = None
    stack: int | str | None = None
    nproc: int | str | None = None


class Limits(Tunable[Spec, str]):
    """Default limits of services and logins. Containers take theirs from the unit of their runtime."""

    name = "limits"
    group = "services/time/limits"
    spec_type = Spec
    value_type = str
    prefix = "limit:"
    subject_pattern = r"limit:[a-z]+"
    about = About(
        Severity.HIGH,
        "memory that cannot be locked cannot be registered for RDMA; NCCL then uses sockets without an error",
        ("https://www.freedesktop.org/software/systemd/man/latest/systemd-system.conf.html",),
        "takes effect for services after the next reboot; the container runtime's unit needs its own LimitMEMLOCK=",
    )
    disruption = Disruption.REBOOT
    lifetime = Lifetime.PERSISTENT
    live_writable = False
    drop_in = LimitFiles()

    def check(self, spec: Spec) -> list[str]:
        """Anything but a number or `infinity`; files without a limit."""
        faults = []
        for name in _NAMES:
            value = getattr(spec, name)
            if value is not None and value != "infinity" and not re.match(r"\d{1,15}\Z", str(value)):
                faults.append(f".{name}: {value!r} is neither a number nor infinity")
        if spec.nofile == "infinity":
            faults.append(".nofile: infinity makes daemons that clear a table of all files run out of memory")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each limit."""
        return [f"limit:{name}" for name in _NAMES if getattr(spec, name) is not None]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Limit that services start with, and what files give services and logins at the next boot."""
        name = subject.removeprefix("limit:")
        live = service_limit(facts, name)
        persisted: Observation = Absent("no file sets it")
        own, others = False, None
        try:
            services = [
                (_of_service(name, *found), found[1])
                for found in manager_settings(facts, f"DefaultLimit{name.upper()}")
            ]
            if services:
                persisted, own = Value(services[-1][0]), services[-1][1] == f"/{self.drop_in.path}"
            theirs = [limit for limit, path in services if path != f"/{self.drop_in.path}"][-1:]
            others = max([*theirs, *_of_logins(facts, name)], key=_rank, default=None)
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        impossible = self.drop_in.impossible(facts)
        if name == "nofile" and "infinity" in (others, live.value if isinstance(live, Value) else None):
            impossible = impossible or "files have no limit now, so any limit that we set would be lower"
        return Reading(
            live,
            evidence="systemctl show, /proc/1/limits",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=impossible,
            own=own,
            others=others,
        )

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The values of the spec as text."""
        return {subject: str(getattr(spec, subject.removeprefix("limit:"))) for subject in readings}

    def matches(self, subject: Subject, observed: str, desired: str) -> bool:
        """At least as much."""
        if observed in ("infinity", desired):
            return True
        return desired != "infinity" and str(observed).isdigit() and int(observed) >= int(desired)

    def comparison(self, subject: Subject, desired: str) -> Comparison:
        """A lower limit."""
        return "atLeast"

    def value_for(self, subject: Subject, desired: str, found: Sequence[str | None]) -> str:
        """The highest of what is wanted, what services get now and what files give services and logins already."""
        return max((desired, *(value for value in found if value is not None and _is_limit(value))), key=_rank)

    def lowers(self, own: str, other: str | None, desired: str) -> bool:
        """A lower limit than services get now, or than other files give."""
        return other is not None and _is_limit(own) and _is_limit(other) and _rank(own) < _rank(other)

    def entries(self, subject: Subject, value: str) -> Entries:
        """One line in each of the two files."""
        return {subject.removeprefix("limit:"): str(value)}


_SIZE = lazy_regex(r"(\d{1,18})(?:\.(\d{1,6}))?\s*([BKMGTPE]?)\Z")


def _of_service(name: str, text: str, path: str) -> str:
    """A limit as systemd reads it, the hard one: bytes with suffixes of 1024, or a count. Raises ReadFailed."""
    hard = text.rpartition(":")[2].strip()
    size = _SIZE.match(hard)
    if hard == "infinity":
        return hard
    if size is None or (name not in _IN_BYTES and (size.group(2) or size.group(3))):
        raise ReadFailed(f"{path}: DefaultLimit{name.upper()}={text} is not a limit that systemd understands")
    factor = 1024 ** "BKMGTPE".index(size.group(3) or "B")
    return str(int(size.group(1)) * factor + int(float(f"0.{size.group(2) or 0}") * factor))


def _of_logins(facts: Facts, name: str) -> list[str]:
    """What files of others give everyone or root at a login, as bytes or counts (limits.conf(5)). Raises ReadFailed."""
    found = []
    folder = "etc/security/limits.d"
    for path in ["etc/security/limits.conf", *by_precedence(facts.host, [folder])]:
        text = "" if path == LimitFiles.logins else facts.host.files.read_or(path, "")
        for item, value in for_everyone(text):
            if item != name:
                continue
            if value in ("unlimited", "infinity", "-1"):
                found.append("infinity")
            elif re.match(r"\d{1,18}\Z", value):
                found.append(str(int(value) * (1024 if name in _IN_BYTES else 1)))
            else:
                raise ReadFailed(f"/{path}: {item} {value} is not a limit")
    return found


def _is_limit(value: str) -> bool:
    return value == "infinity" or str(value).isdigit()


def _rank(value: str) -> float:
    return float("inf") if value == "infinity" else float(str(value))


TUNABLE = Limits()
