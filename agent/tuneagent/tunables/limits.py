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
from tuneagent.formats.limits_conf import IN_BYTES, INFINITY
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.limit_files import LimitFiles, Login, logins, rank
from tuneagent.persist.systemd_d import manager_settings
from tuneagent.tunables.base import Tunable

_NAMES = ("memlock", "nofile", "stack", "nproc")


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
    subject_pattern = r"(limit|login):[a-z]+"
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
            if value is not None and value != INFINITY and not re.match(r"\d{1,15}\Z", str(value)):
                faults.append(f".{name}: {value!r} is neither a number nor infinity")
        if spec.nofile == INFINITY:
            faults.append(".nofile: infinity makes daemons that clear a table of all files run out of memory")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """For each limit one of services and one of logins."""
        names = [name for name in _NAMES if getattr(spec, name) is not None]
        return [f"{kind}:{name}" for kind in ("limit", "login") for name in names]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Limit that services start with now and at the next boot, or that a login gets."""
        kind, _, name = subject.partition(":")
        return self._logins(facts, name) if kind == "login" else self._services(facts, name)

    def _services(self, facts: Facts, name: str) -> Reading:
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
            others = next((limit for limit, path in reversed(services) if path != f"/{self.drop_in.path}"), None)
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        return Reading(
            live,
            evidence="systemctl show, /proc/1/limits",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self._impossible(facts, name, others, live),
            own=own,
            others=others,
        )

    def _logins(self, facts: Facts, name: str) -> Reading:
        """What a login gets is what files say when it begins; without a line it has what services have."""
        evidence = "/etc/security/limits.conf, /etc/security/limits.d"
        if not facts.host.files.is_dir("etc/security"):
            return Reading(facts.host.missing("etc/security/limits.conf"), evidence=evidence)
        try:
            found = logins(facts, name, with_ours=True)
            theirs = [one.value for one in logins(facts, name, with_ours=False) if one.domain in ("*", "root")]
        except ReadFailed as error:
            return Reading(Unreadable(str(error)), evidence=evidence)
        services = self._services(facts, name)
        live = _least(found, services.live)
        lowest = next((one for one in found if Value(one.value) == live), None)
        others = min((value for value in theirs if value is not None), key=rank, default=None)
        is_own = lowest is not None and lowest.file == f"/{self.drop_in.logins}"
        is_for_some = lowest is not None and lowest.domain not in ("*", "root")
        return Reading(
            live,
            evidence=evidence,
            persisted=_least(found, services.persisted),
            mechanism=self.drop_in.logins,
            impossible=self._impossible(facts, name, others, live),
            own=is_own,
            others=others,
            # Lines for everyone do not reach a user or a group that has a line of its own.
            owner=f"{lowest.file} (for {lowest.domain})" if lowest is not None and is_for_some else None,
        )

    def _impossible(self, facts: Facts, name: str, others: str | None, live: Observation) -> str | None:
        impossible = self.drop_in.impossible(facts)
        if name == "nofile" and INFINITY in (others, live.value if isinstance(live, Value) else None):
            return impossible or "open files are unlimited now, so any limit set here would be lower"
        return impossible

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The values of the spec as text."""
        return {subject: str(getattr(spec, subject.partition(":")[2])) for subject in readings}

    def matches(self, subject: Subject, observed: str, desired: str) -> bool:
        """At least as much."""
        if observed in (INFINITY, desired):
            return True
        return desired != INFINITY and str(observed).isdigit() and int(observed) >= int(desired)

    def comparison(self, subject: Subject, desired: str) -> Comparison:
        """A lower limit."""
        return "atLeast"

    def value_for(self, subject: Subject, desired: str, found: Sequence[str | None]) -> str:
        """The highest of what is wanted, what services get now and what files give services and logins already."""
        return max((desired, *(value for value in found if value is not None and _is_limit(value))), key=rank)

    def lowers(self, own: str, other: str | None, desired: str) -> bool:
        """A lower limit than services get now, or than other files give."""
        return other is not None and _is_limit(own) and _is_limit(other) and rank(own) < rank(other)

    def entries(self, subject: Subject, value: str) -> Entries:
        """One line for services, or one for everyone and one for root."""
        return {subject.removeprefix("limit:"): str(value)}


_SIZE = lazy_regex(r"(\d{1,18})(?:\.(\d{1,6}))?\s*([BKMGTPE]?)\Z")


def _of_service(name: str, text: str, path: str) -> str:
    """A limit as systemd reads it, the soft one, which programs start with: bytes with suffixes of 1024, or a count.

    Raises ReadFailed.
    """
    soft = text.partition(":")[0].strip()
    size = _SIZE.match(soft)
    if soft == INFINITY:
        return soft
    if size is None or (name not in IN_BYTES and (size.group(2) or size.group(3))):
        raise ReadFailed(f"{path}: DefaultLimit{name.upper()}={text} is not a limit that systemd understands")
    factor = 1024 ** "BKMGTPE".index(size.group(3) or "B")
    return str(int(size.group(1)) * factor + int(float(f"0.{size.group(2) or 0}") * factor))


def _least(found: Sequence[Login], services: Observation | None) -> Observation:
    """The least that any login gets, those without a line by what services get."""
    values = [one.value for one in found if one.value is not None]
    if len(values) < len(found):
        if not isinstance(services, Value):
            return services or Absent("no file sets it")
        values.append(str(services.value))
    return Value(min(values, key=rank))


def _is_limit(value: str) -> bool:
    return value == INFINITY or str(value).isdigit()


TUNABLE = Limits()
