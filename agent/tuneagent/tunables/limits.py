"""limits: how much a service or login may lock in memory, and how many files it may open (systemd-system.conf(5)).

Written for the next boot: a reload of systemd at run time takes the GPUs from containers (nvidia-container-toolkit
issue 48), and running processes keep their limits anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.checks.system import service_limit
from tuneagent.errors import ReadFailed
from tuneagent.model import (
    About,
    Absent,
    Disruption,
    Lifetime,
    Observation,
    Reading,
    Setting,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.persist.systemd_d import LimitFiles, manager_setting
from tuneagent.tunable import Entries, Facts, Tunable

_NAMES = ("memlock", "nofile", "stack", "nproc")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes, counts, or `infinity`."""

    memlock: int | str | None = None
    nofile: int | str | None = None
    stack: int | str | None = None
    nproc: int | str | None = None


class Limits(Tunable[Spec]):
    """Default limits of services and logins. Containers take theirs from the unit of their runtime."""

    name = "limits"
    group = "services/time/limits"
    spec_type = Spec
    about = About(
        Severity.HIGH,
        "memory that cannot be locked cannot be registered for RDMA; NCCL then uses sockets without an error",
        ("https://www.freedesktop.org/software/systemd/man/latest/systemd-system.conf.html",),
        "in force for services after the next reboot; the container runtime's unit needs LimitMEMLOCK= of its own",
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
        """Limit that services start with, and the drop-in of the next boot."""
        name = subject.removeprefix("limit:")
        live = service_limit(facts, name)
        try:
            found = manager_setting(facts, f"DefaultLimit{name.upper()}")
            persisted: Observation = Value(found[0].rpartition(":")[2]) if found else Absent("no file sets it")
            own = found is not None and found[1].lstrip("/") in self.drop_in.files
        except ReadFailed as error:
            persisted, own = Unreadable(str(error)), False
        return Reading(
            live,
            evidence="systemctl show, /proc/1/limits",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
            own=own,
        )

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Setting]:
        """The values of the spec as text."""
        return {subject: str(getattr(spec, subject.removeprefix("limit:"))) for subject in readings}

    def matches(self, observed: Setting, desired: Setting) -> bool:
        """At least as much."""
        if observed in ("infinity", desired):
            return True
        return desired != "infinity" and str(observed).isdigit() and int(observed) >= int(desired)

    def value_for(self, subject: Subject, desired: Setting, live: Setting, persisted: Setting) -> Setting:
        """The highest of what is wanted, what services get now and what the next boot sets already."""
        known = [value for value in (live, persisted) if _is_limit(value)]
        if subject == "limit:nofile":
            # Without a limit of files a login fails where the kernel has one (fs.nr_open).
            known = [value for value in known if value != "infinity"]
        return max((desired, *known), key=_rank)

    def lowers(self, own: Setting, live: Setting) -> bool:
        """A lower limit than services get now."""
        return _is_limit(own) and _is_limit(live) and _rank(own) < _rank(live)

    def entries(self, subject: Subject, value: Setting) -> Entries:
        """One line in each of the two files."""
        return {subject.removeprefix("limit:"): str(value)}


def _is_limit(value: Setting) -> bool:
    return value == "infinity" or str(value).isdigit()


def _rank(value: Setting) -> float:
    return float("inf") if value == "infinity" else float(str(value))


TUNABLE = Limits()
