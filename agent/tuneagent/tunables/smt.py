"""smt: simultaneous multithreading on or off (Documentation/ABI/testing/sysfs-devices-system-cpu)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import (
    About,
    Absent,
    Dispute,
    Disruption,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

PATH = "sys/devices/system/cpu/smt/control"
_IMPOSSIBLE = ("notsupported", "notimplemented", "forceoff")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a core runs two threads."""

    enabled: bool


class Smt(Tunable[Spec, str]):
    """SMT siblings of every core."""

    name = "smt"
    group = "cpu"
    spec_type = Spec
    value_type = str
    prefix = "smt:"
    subject_pattern = r"smt:control"
    about = About(
        Severity.MEDIUM,
        "two threads of a core share its units: more loaders in total, but less for the thread that feeds the GPU",
        ("https://docs.kernel.org/admin-guide/hw-vuln/l1tf.html",),
        "a kubelet with the static policy needs its state file removed, with the node drained; vendor guides disagree",
        dispute=Dispute(
            "AMD's MI300X guide: off",
            "NVIDIA ships DGX with it on; more loader threads",
            "left alone unless a profile says so; then with whole cores for pods",
        ),
    )
    disruption = Disruption.KUBELET
    drop_in = TmpfilesD()

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The one switch."""
        return ["smt:control"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running state and the tmpfiles.d line of the next boot."""
        seen: Observation = facts.host.observe(PATH)
        if isinstance(seen, Value) and seen.value in _IMPOSSIBLE:
            seen = Absent(f"the kernel says {seen.value}")
        elif isinstance(seen, Value) and seen.value not in ("on", "off"):
            seen = Unreadable(f"/{PATH}: {str(seen.value)[:40]!r} is not a state of SMT")
        return reading(facts, PATH, seen, default=_unwritten(facts))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """`on` or `off`."""
        return {"smt:control": "on" if spec.enabled else "off"}

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Write the switch: the kernel takes CPUs off or brings them back."""
        facts.host.files.write(PATH, f"{value}\n")

    def entries(self, subject: Subject, value: str) -> Entries:
        """One `w` line."""
        return {PATH: str(value)}


def _unwritten(facts: Facts) -> Observation:
    """What the next boot gives where no file writes the switch."""
    given = at_next_boot(facts, "nosmt")
    if given:
        return Value("forceoff" if "force" in given else "off")
    if any(str(text).endswith(",nosmt") for text in at_next_boot(facts, "mitigations")):
        return Unreadable("mitigations=…,nosmt on the kernel line turns SMT off on CPUs with certain faults")
    return Value("on")


TUNABLE = Smt()
