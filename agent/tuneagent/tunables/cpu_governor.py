"""cpuGovernor: who chooses the CPU clock (Documentation/admin-guide/pm/cpufreq.rst, intel_pstate.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tuneagent.contracts.values import About, Absent, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

BASE = "sys/devices/system/cpu"
# Drivers that choose the clock themselves: their `powersave` is the dynamic mode, not the slowest clock.
SELF_CHOOSING = ("intel_pstate", "amd-pstate-epp")
_DYNAMIC = ("schedutil", "ondemand", "conservative")


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One governor for every CPU."""

    governor: Literal["performance", "powersave", "schedutil", "ondemand", "conservative"]


def _path(subject: Subject, file: str = "scaling_governor") -> str:
    return f"{BASE}/{subject.replace('cpu:', 'cpu')}/cpufreq/{file}"


class CpuGovernor(Tunable[Spec, str]):
    """Frequency governor of each CPU."""

    name = "cpuGovernor"
    group = "cpu"
    spec_type = Spec
    value_type = str
    subject_pattern = r"cpu:[0-9]+"
    about = About(
        Severity.MEDIUM,
        "a clock that ramps up with each burst delays kernel launches of the thread that feeds the GPU",
        (
            "https://docs.kernel.org/admin-guide/pm/cpufreq.html",
            "https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
        ),
    )
    drop_in = TmpfilesD()

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """Every online CPU that has a frequency; `host` where none has."""
        online = sorted(facts.topology.online)
        found = [f"cpu:{cpu}" for cpu in online if facts.host.files.exists(f"{BASE}/cpu{cpu}/cpufreq")]
        return found or ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running governor, and that of the next boot: by tmpfiles.d, else by its kernel line."""
        if subject == "host":
            if not facts.topology.online:
                return Reading(Unreadable("the CPUs of this host are not known"), evidence=f"/{BASE}")
            return Reading(Absent("no CPU has cpufreq here, as is usual in a virtual machine"), evidence=f"/{BASE}")
        path = _path(subject)
        live = facts.host.observe(path)
        if isinstance(live, Value) and not str(live.value).replace("_", "").isalpha():
            live = Unreadable(f"/{path}: {live.value!r} is not a governor")
        given = at_next_boot(facts, "cpufreq.default_governor")
        offered = facts.host.observe(_path(subject, "scaling_available_governors")) if given else None
        known = [str(one.value) for one in (live, offered) if isinstance(one, Value)]
        is_offered = bool(given) and str(given[-1]) in " ".join(known).split()
        return reading(facts, path, live, default=Value(str(given[-1])) if is_offered else None)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The governor; drivers that choose the clock themselves call the dynamic one `powersave`."""
        desired: dict[Subject, str] = {}
        for subject in readings:
            if subject == "host":
                continue
            driver = facts.host.files.read_or(_path(subject, "scaling_driver"), "")
            dynamic = driver in SELF_CHOOSING and spec.governor in _DYNAMIC
            desired[subject] = "powersave" if dynamic else spec.governor
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: str) -> str | None:
        """A governor that the kernel does not offer."""
        offered = facts.host.files.read_or(_path(subject, "scaling_available_governors"), "").split()
        if offered and desired not in offered:
            return f"the kernel offers {', '.join(offered)}, not {desired}"
        return None

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Write the running governor."""
        facts.host.files.write(_path(subject), f"{value}\n")

    def entries(self, subject: Subject, value: str) -> Entries:
        """One `w` line."""
        return {_path(subject): str(value)}


TUNABLE = CpuGovernor()
