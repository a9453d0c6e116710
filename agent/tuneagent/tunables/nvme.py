"""nvme: I/O scheduler, read-ahead and completion CPU of NVMe drives (Documentation/block/queue-sysfs.rst)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import (
    About,
    Absent,
    Dispute,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.bracketed_choice import chosen, offered, with_chosen
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.udev import UdevRules, entry_of, key, reading
from tuneagent.tunables.base import Tunable

_SUBJECT = lazy_regex(r"nvme:([0-9a-f:.]+)/ns(\d+)/(\w+)\Z")
# Field of the spec -> file under queue/.
FILES = {
    "scheduler": "scheduler",
    "read_ahead_kib": "read_ahead_kb",
    "rq_affinity": "rq_affinity",
    "nomerges": "nomerges",
}
_RANGES = {"read_ahead_kib": (0, 65536), "rq_affinity": (0, 2), "nomerges": (0, 2)}


SettingValue = int | str


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is given applies to every NVMe drive; the rest is left alone."""

    scheduler: Literal["none", "mq-deadline", "kyber", "bfq"] | None = None
    read_ahead_kib: int | None = msgspec.field(default=None, name="readAheadKiB")
    rq_affinity: int | None = msgspec.field(default=None, name="rqAffinity")
    nomerges: int | None = None


class Nvme(Tunable[Spec, SettingValue]):
    """Queue settings of each NVMe namespace."""

    name = "nvme"
    group = "storage"
    spec_type = Spec
    value_type = SettingValue
    prefix = "nvme:"
    subject_pattern = r"nvme:[0-9a-f:.]+/ns[0-9]+/\w+"
    about = About(
        Severity.MEDIUM,
        "a scheduler for spinning disks costs CPU on every request; read-ahead must fit the file system above",
        ("https://docs.kernel.org/block/queue-sysfs.html", "https://github.com/redhat-performance/tuned"),
        "read-ahead: large for streaming from a local file system, small where the file system reads ahead itself",
        dispute=Dispute(
            "read-ahead 4096 KiB in three TuneD profiles",
            "0 in spectrumscale-ece, where the file system reads ahead itself",
            "scheduler none; read-ahead only where a profile names it",
        ),
    )
    drop_in = UdevRules()

    def check(self, spec: Spec) -> list[str]:
        """Numbers out of range."""
        return [
            f".{field}: {value} is not between {low} and {high}"
            for field, (low, high) in _RANGES.items()
            if (value := getattr(spec, field)) is not None and not low <= value <= high
        ]

    def _namespaces(self, facts: Facts) -> dict[str, str]:
        """`<pci>/ns<number>` to the name of this boot."""
        found: dict[str, str] = {}
        for drive in facts.topology.nvme or ():
            for controller in facts.host.files.names(f"sys/bus/pci/devices/{drive.address}/nvme"):
                base = f"sys/bus/pci/devices/{drive.address}/nvme/{controller}"
                for name in facts.host.files.names(base):
                    match = re.match(r"nvme\d+(?:c\d+)?n(\d+)\Z", name)
                    if match:
                        found[f"{drive.address}/ns{match.group(1)}"] = name
        return found

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each namespace and setting."""
        fields = [field for field in FILES if getattr(spec, field) is not None]
        return [f"nvme:{place}/{field}" for place in sorted(self._namespaces(facts)) for field in fields] or ["host"]

    def _path(self, facts: Facts, subject: Subject) -> str:
        match = _SUBJECT.match(subject)
        name = self._namespaces(facts).get(f"{match.group(1)}/ns{match.group(2)}") if match else None
        if match is None or name is None:
            if facts.topology.nvme is None:
                raise ReadFailed("the PCI devices of this host are not known")
            raise PathMissing(f"{subject}: no such drive now")
        # With native multipath the queue belongs to the head, named without the controller.
        head = re.sub(r"c\d+", "", name)
        return f"sys/block/{head}/queue/{FILES[match.group(3)]}"

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value and the udev rule of the next boot."""
        if subject == "host":
            if facts.topology.nvme is None:
                return Reading(Unreadable("the PCI devices of this host are not known"), evidence="/sys/bus/pci")
            return Reading(Absent("no NVMe drive"), evidence="/sys/bus/pci")
        try:
            path = self._path(facts, subject)
        except PathMissing as error:
            return Reading(Absent(str(error)), evidence="/sys/bus/pci")
        except ReadFailed as error:
            return Reading(Unreadable(str(error)), evidence="/sys/bus/pci")
        live: Observation = facts.host.observe(path)
        is_word = subject.endswith("/scheduler")
        if isinstance(live, Value):
            if is_word:
                word = chosen(str(live.value))
                live = Value(word) if word else Unreadable(f"/{path}: no choice in {live.value!r}")
            else:
                known = str(live.value).isdigit()
                live = Value(int(str(live.value))) if known else Unreadable(f"/{path}: {live.value!r} is not a number")
        found = reading(facts, path, live, _entry(subject), str if is_word else int)
        match = _SUBJECT.match(subject)
        name = self._namespaces(facts).get(f"{match.group(1)}/ns{match.group(2)}", "") if match else ""
        if re.match(r"nvme\d+c\d+n", name):
            why = "with native multipath the drive has no PCI parent that a udev rule could match"
            return msgspec.structs.replace(found, impossible=why, persisted=None)
        return found

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """The values of the spec."""
        return {subject: getattr(spec, subject.rpartition("/")[2]) for subject in readings if subject != "host"}

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """A scheduler that this kernel has not loaded."""
        if not subject.endswith("/scheduler"):
            return None
        known = offered(facts.host.files.read_or(self._path(facts, subject), ""))
        return None if desired in known else f"the kernel offers {', '.join(known)}, not {desired}"

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Write the running value; in a tree the file shows the choice as the kernel would."""
        path = self._path(facts, subject)
        text = str(value)
        if subject.endswith("/scheduler") and not facts.host.files.is_kernel:
            text = with_chosen(facts.host.files.read(path), text)
        facts.host.files.write(path, f"{text}\n")

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """One udev rule."""
        return entry_of(_entry(subject), value)


def _entry(subject: Subject) -> str:
    match = _SUBJECT.match(subject)
    if match is None:
        raise ReadFailed(f"{subject!r} is not a namespace")
    return key("block", match.group(1), f"nvme*n{match.group(2)}", f"queue/{FILES[match.group(3)]}")


TUNABLE = Nvme()
