"""cpuIdle: idle states that take too long to leave are switched off (Documentation/admin-guide/pm/cpuidle.rst).

Chosen by exit latency, never by number: state 3 is deep on one CPU and shallow on another (TuneD issue 808).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

BASE = "sys/devices/system/cpu"
_SUBJECT = lazy_regex(r"cpu:(\d+)/idle:(\d+)-(\S+)\Z")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Longest exit latency that is allowed, in microseconds, as the driver advertises it."""

    max_exit_latency_us: int = msgspec.field(name="maxExitLatencyUs")


def _path(subject: Subject, file: str = "disable") -> str:
    match = _SUBJECT.match(subject)
    if match is None:
        raise ReadFailed(f"{subject!r} is not an idle state")
    return f"{BASE}/cpu{match.group(1)}/cpuidle/state{match.group(2)}/{file}"


class CpuIdle(Tunable[Spec, int]):
    """Idle states of each CPU, by their exit latency."""

    name = "cpuIdle"
    group = "cpu"
    spec_type = Spec
    value_type = int
    subject_pattern = r"cpu:[0-9]+/idle:[0-9]+-[^\s/]+"
    about = About(
        Severity.HIGH,
        "a CPU in deep sleep wakes up late: a kernel launch or an interrupt has to wait for it",
        (
            "https://docs.kernel.org/admin-guide/pm/cpuidle.html",
            "https://github.com/google/gvisor/pull/14526",
            "https://github.com/redhat-performance/tuned/issues/808",
        ),
        "costs power, and the turbo clocks of busy cores: use it for latency, not everywhere",
        dispute=Dispute(
            "C6 takes 150 to 230 us to leave on recent Xeons (gVisor pull request 14526)",
            "shallow idle costs power, and the turbo clocks of busy cores; AMD keeps it on",
            "by exit latency, only in the profile inference",
        ),
    )
    drop_in = TmpfilesD()
    after = ("smt",)

    def check(self, spec: Spec) -> list[str]:
        """An invalid latency."""
        if not 0 <= spec.max_exit_latency_us <= 1_000_000:
            return [f".maxExitLatencyUs: {spec.max_exit_latency_us} is not between 0 and 1000000"]
        return []

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """Every state of every online CPU; `host` where there is none."""
        found = []
        for cpu in sorted(facts.topology.online):
            for state in facts.host.files.names(f"{BASE}/cpu{cpu}/cpuidle"):
                number = state.removeprefix("state")
                if number.isdigit():
                    name = facts.host.files.read_or(f"{BASE}/cpu{cpu}/cpuidle/{state}/name", number)
                    found.append(f"cpu:{cpu}/idle:{number}-{re.sub(r'[^A-Za-z0-9._]', '_', name)[:20]}")
        return found or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Whether the state is switched off, and the tmpfiles.d line of the next boot."""
        if subject == "host":
            if not facts.topology.online:
                return Reading(Unreadable("the CPUs of this host are not known"), evidence=f"/{BASE}")
            return Reading(Absent("no CPU has idle states of its own here, as is usual in a virtual machine"),
                           evidence=f"/{BASE}")  # fmt: skip
        path = _path(subject)
        live: Observation = facts.host.observe(path)
        if isinstance(live, Value):
            known = str(live.value).isdigit()
            live = (
                Value(int(str(live.value) != "0")) if known else Unreadable(f"/{path}: {live.value!r} is not a switch")
            )
        return reading(facts, path, live, int, default=Value(0))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, int]:
        """1 where the state takes longer to leave, 0 where it does not; nothing where that is not known."""
        desired: dict[Subject, int] = {}
        for subject in readings:
            if subject == "host":
                continue
            try:
                latency = facts.host.files.read_or(_path(subject, "latency"), "")
            except ReadFailed:
                continue
            if latency.isdigit():
                desired[subject] = int(int(latency) > spec.max_exit_latency_us)
        return desired

    def write(self, facts: Facts, subject: Subject, value: int) -> None:
        """Write the switch of the state."""
        facts.host.files.write(_path(subject), f"{value}\n")

    def entries(self, subject: Subject, value: int) -> Entries:
        """One `w` line."""
        return {_path(subject): str(value)}


TUNABLE = CpuIdle()
