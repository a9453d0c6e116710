"""netQueues: CPUs that process received packets (RPS) and that send on a queue (XPS) (networking/scaling.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.formats.cpulist import format_cpulist, format_cpumask, parse_cpulist, parse_cpumask
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.udev import UdevRules, key, reading
from tuneagent.tunables.base import Tunable

_SUBJECT = lazy_regex(r"pci:([0-9a-f:.]+)/((?:rx|tx)-\d+)\Z")
QUEUE_LIMIT = 1024


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RPS `off` (the NIC's own queues do it) or on the reserved CPUs; XPS on the NIC's own node."""

    rps: Literal["off", "reserved"] | None = None
    xps: Literal["local"] | None = None


class NetQueues(Tunable[Spec, str]):
    """Software steering of each queue of a NIC."""

    name = "netQueues"
    group = "network"
    spec_type = Spec
    value_type = str
    prefix = "pci:"
    subject_pattern = r"pci:[0-9a-f:.]+/(rx|tx)-[0-9]+"
    about = About(
        Severity.LOW,
        "packets steered to another CPU by software wake cores that jobs use",
        ("https://docs.kernel.org/networking/scaling.html",),
    )
    drop_in = UdevRules()
    after = ("smt",)

    def _queues(self, facts: Facts, spec: Spec) -> list[str]:
        wanted = [prefix for prefix, on in (("rx-", spec.rps), ("tx-", spec.xps)) if on]
        found: list[str] = []
        for nic in facts.topology.nics or ():
            for name in nic.names[:1]:
                for queue in facts.host.files.names(f"sys/class/net/{name}/queues"):
                    if queue.startswith(tuple(wanted)) and wanted:
                        found.append(f"pci:{nic.address}/{queue}")
        return found[:QUEUE_LIMIT]

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each queue."""
        return self._queues(facts, spec) or ["host"]

    def _path(self, facts: Facts, subject: Subject) -> str:
        match = _SUBJECT.match(subject)
        nic = facts.topology.pci(match.group(1)) if match else None
        if facts.topology.nics is None:
            raise ReadFailed("the PCI devices of this host are not known")
        if match is None or nic is None or not nic.names:
            raise PathMissing(f"{subject}: no such NIC now")
        return f"sys/class/net/{nic.names[0]}/queues/{match.group(2)}/{_attribute(subject)}"

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """CPUs of the queue as a list, and the udev rule of the next boot."""
        if subject == "host":
            if facts.topology.nics is None:
                return Reading(Unreadable("the PCI devices of this host are not known"), evidence="/sys/bus/pci")
            return Reading(Absent("no NIC has such queues"), evidence="/sys/class/net")
        try:
            path = self._path(facts, subject)
        except PathMissing as error:
            return Reading(Absent(str(error)), evidence="/sys/class/net")
        except ReadFailed as error:
            return Reading(Unreadable(str(error)), evidence="/sys/class/net")
        live: Observation = facts.host.observe(path)
        if isinstance(live, Value):
            try:
                live = Value(format_cpulist(parse_cpumask(str(live.value))))
            except ValueError as error:
                live = Unreadable(f"/{path}: {error}")
        found = reading(facts, path, live, _entry(subject), str)
        if isinstance(found.persisted, Value):
            cpus = format_cpulist(parse_cpumask(str(found.persisted.value)))
            return msgspec.structs.replace(found, persisted=Value(cpus))
        if isinstance(found.persisted, Absent) and _attribute(subject) == "rps_cpus":
            # Without a rule the kernel starts with no CPU at all: off.
            return msgspec.structs.replace(found, persisted=Value(""))
        return found

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """No CPU, the reserved ones, or those of the NIC's node."""
        desired: dict[Subject, str] = {}
        for subject in readings:
            match = _SUBJECT.match(subject)
            if match is None:
                continue
            if match.group(2).startswith("rx-"):
                cpus = "" if spec.rps == "off" else expand(facts, "{reserved}")
                if cpus is not None and "{" not in cpus:
                    desired[subject] = cpus
                continue
            nic = facts.topology.pci(match.group(1))
            near = facts.topology.local_cpus(nic) if nic else None
            if near:
                desired[subject] = format_cpulist(near)
        return desired

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A CPU plan for another topology."""
        return waiting(facts) if "/rx-" in subject and _follows_plan(facts) else None

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Write the mask."""
        facts.host.files.write(self._path(facts, subject), format_cpumask(parse_cpulist(str(value))) + "\n")

    def entries(self, subject: Subject, value: str) -> Entries:
        """One udev rule."""
        return {_entry(subject): format_cpumask(parse_cpulist(str(value)))}


def _follows_plan(facts: Facts) -> bool:
    return getattr(facts.specs.get("netQueues"), "rps", None) == "reserved"


def _attribute(subject: Subject) -> str:
    return "rps_cpus" if "/rx-" in subject else "xps_cpus"


def _entry(subject: Subject) -> str:
    match = _SUBJECT.match(subject)
    if match is None:
        raise ReadFailed(f"{subject!r} is not a queue")
    # Through the interface: a queue's own event names a path that is gone once the interface has been renamed.
    return key("net", match.group(1), "*", f"queues/{match.group(2)}/{_attribute(subject)}")


TUNABLE = NetQueues()
