"""reservedCpus: CPUs kept for the system's own work, resolved from the topology; other settings follow the plan.

`{reserved}` and `{isolated}` in kernelArguments, `reserved` in kernelFiles, cgroupSlices and irqAffinity stand for its
two halves. The kubelet's reservedSystemCPUs is compared with it and left to people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneagent.contracts.values import About, Absent, Disruption, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.kubelet import KUBELET_CONFIG, has_kubelet, kubelet_field
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import plan_of, waiting
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.topology.cpu_plan import Spec
from tuneagent.tunables.base import Tunable

PLAN, KUBELET = "cpus:plan", "kubelet:reservedSystemCPUs"


SettingValue = str | list[str]


class ReservedCpus(Tunable[Spec, SettingValue]):
    """The CPU plan."""

    name = "reservedCpus"
    group = "cpu"
    spec_type = Spec
    value_type = SettingValue
    subject_pattern = r"(?!)"
    about = About(
        Severity.MEDIUM,
        "daemons, interrupts and kernel threads that share a core with the thread that feeds a GPU delay it",
        (
            "https://docs.kernel.org/admin-guide/kernel-parameters.html",
            "https://kubernetes.io/docs/concepts/policy/node-resource-managers/",
        ),
    )
    disruption = Disruption.KUBELET

    def check(self, spec: Spec) -> list[str]:
        """More than one of the three ways to give the plan, or numbers out of range."""
        faults = []
        if sum(value is not None for value in (spec.per_numa_node, spec.cores, spec.cpus)) != 1:
            faults.append(": give one of perNumaNode, cores and cpus")
        for name, value in (("perNumaNode", spec.per_numa_node), ("cores", spec.cores)):
            if value is not None and not 1 <= value <= 4096:
                faults.append(f".{name}: {value} is not between 1 and 4096")
        if spec.cpus is not None:
            try:
                parse_cpulist(spec.cpus)
            except ValueError as error:
                faults.append(f".cpus: {error}")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The plan, and the kubelet's part of it."""
        return [PLAN, KUBELET]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Faults of the plan, or what the kubelet's configuration says."""
        plan = plan_of(facts)
        if plan is None:
            return Reading(Unreadable("the profile has no CPU plan"), evidence="profile")
        if subject == PLAN:
            return Reading(Value(list(plan.faults)), evidence=f"topology {plan.fingerprint}")
        reason = has_kubelet(facts)
        live = Absent(reason) if reason else kubelet_field("reservedSystemCPUs", "")(facts)
        return Reading(live, evidence=f"/{KUBELET_CONFIG}")

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """No fault; and the plan's reserved CPUs for the kubelet."""
        plan = plan_of(facts)
        desired: dict[Subject, SettingValue] = {PLAN: []}
        if plan is not None and not plan.faults:
            desired[KUBELET] = format_cpulist(plan.reserved)
        return desired

    def matches(self, subject: Subject, observed: SettingValue, desired: SettingValue) -> bool:
        """The same CPUs, however they are written."""
        if isinstance(desired, str):
            try:
                return parse_cpulist(str(observed)) == parse_cpulist(desired)
            except ValueError:
                return False
        return bool(observed == desired)

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """The plan's faults; the kubelet's configuration is left to people."""
        plan = plan_of(facts)
        if subject == PLAN:
            return "; ".join(plan.faults) if plan else None
        return f"set reservedSystemCPUs: {desired!r} in the kubelet's configuration, with the node drained"

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A plan for a topology other than the present one."""
        return waiting(facts) if subject == KUBELET else None


TUNABLE = ReservedCpus()
