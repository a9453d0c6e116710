"""kernelArguments: the running command line and the next boot's, apart (admin-guide/kernel-parameters.rst)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.formats.hugetlb_line import count_of, size_kib
from tuneagent.formats.kernel_line import values_of
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.spoken_values import in_words
from tuneagent.persist.boot_arguments import BootArguments, by_hand
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.huge_page_pools import running_default_kib
from tuneagent.tunables.base import Tunable

# Arguments that a profile may name. Those that start another program (init=, rdinit=), load other code or
# disarm the kernel (mitigations, module signatures, lockdown, selinux) match none of these.
ALLOWED = lazy_regex(
    r"isolcpus|nohz|nohz_full|rcu_nocbs|rcu_nocb_poll|irqaffinity|skew_tick|tsc|clocksource"
    r"|default_hugepagesz|hugepagesz|hugepages|hugetlb_free_vmemmap|transparent_hugepage|numa_balancing"
    r"|iommu|iommu\.(passthrough|strict)|intel_iommu|amd_iommu|intel_pstate|amd_pstate|cpufreq\.default_governor"
    r"|intel_idle\.max_cstate|processor\.max_cstate|idle|nosmt|nmi_watchdog|nowatchdog|nosoftlockup"
    r"|workqueue\.(unbound_cpus|power_efficient)|pcie_aspm|pci|init_on_alloc|psi|preempt|cgroup_disable|swapaccount"
    r"|systemd\.unified_cgroup_hierarchy|systemd\.cpu_affinity|kthread_cpus|mce|nvme_core\.[a-z_]+|numa_zonelist_order"
)
_VALUE = lazy_regex(r"[A-Za-z0-9_.,:/@+^~={}-]{1,512}\Z")
Spec = dict[str, str | int | bool | None]


SettingValue = None | bool | str | list[str | bool]


class KernelArguments(Tunable[Spec, SettingValue]):
    """Arguments of the kernel command line. `true` is a bare word, null removes the argument."""

    name = "kernelArguments"
    group = "kernel arguments"
    spec_type = Spec
    value_type = SettingValue
    merges = True
    prefix = "arg:"
    about = About(
        Severity.HIGH,
        "isolation, huge pages at boot and the IOMMU mode are decided once, when the kernel starts",
        ("https://docs.kernel.org/admin-guide/kernel-parameters.html",),
        "takes effect at the next reboot, which tuneagent does not start by itself",
    )
    disruption = Disruption.REBOOT
    lifetime = Lifetime.PERSISTENT
    live_writable = False
    all_or_nothing = True
    drop_in = BootArguments()

    def check(self, spec: Spec) -> list[str]:
        """Names outside the allow-list, values that hold more than one word."""
        faults = []
        for name, value in spec.items():
            if not ALLOWED.fullmatch(name):
                faults.append(f".{name}: not an argument that a profile may set")
            if value is False:
                faults.append(f".{name}: false has no meaning here; null removes the argument")
            elif not isinstance(value, bool) and value is not None and not _VALUE.match(str(value)):
                faults.append(f".{name}: {value!r} is not a plain word")
            elif re.search(r"[{}]", re.sub(r"{(reserved|isolated)}", "", str(value))):
                faults.append(f".{name}: {value!r}: braces may only hold `reserved` or `isolated`")
        return faults

    def could_name(self, subject: Subject) -> bool:
        """Arguments of the allow-list."""
        name = subject.removeprefix(self.prefix)
        return subject != name and ALLOWED.fullmatch(name) is not None

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each argument."""
        return [f"arg:{name}" for name in sorted(spec)]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Value on the running line, and on the line of the next boot."""
        name = subject.removeprefix("arg:")
        seen = facts.host.observe("proc/cmdline")
        live: Observation = Value(_shown(str(seen.value), name)) if isinstance(seen, Value) else seen
        impossible = self.drop_in.impossible(facts)
        persisted: Observation | None
        doubt = ""
        try:
            persisted = Value(_shown(self.drop_in.next_line(facts), name))
        except PathMissing as missing:
            persisted, doubt = Absent(str(missing)), str(missing)
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        return Reading(
            live,
            evidence="/proc/cmdline",
            persisted=persisted,
            mechanism=self.drop_in.chosen(facts).path,
            impossible=impossible,
            doubt=doubt,
        )

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """The values of the spec, as text; CPUs from the CPU plan where they name it."""
        desired: dict[Subject, SettingValue] = {}
        for name, value in spec.items():
            filled = value if value is None or value is True else expand(facts, str(value))
            if filled is not None or value is None:
                desired[f"arg:{name}"] = filled
        return desired

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """No boot loader that we can write, or CPU 0 isolated."""
        loader = self.drop_in.chosen(facts)
        reason = loader.impossible(facts) or loader.unsafe(facts, subject.removeprefix("arg:"))
        if reason is not None:
            words = next(iter(self.entries(subject, desired).values())) or ""
            advice = by_hand(facts, loader, words)
            return f"{reason}; by hand: {advice}" if advice else reason
        if not facts.host.exec.available:
            return "the boot loader's program cannot be run on a tree of files"
        if subject == "arg:isolcpus" and desired is not None:
            return _isolation_refusal(facts, str(desired))
        if subject in ("arg:hugepages", "arg:hugepagesz", "arg:default_hugepagesz"):
            return _hugepages_refusal(facts)
        return None

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """CPUs of a plan for another topology; SMT off at the next boot is such a change."""
        raw = str(_spec(facts).get(subject.removeprefix("arg:")))
        return waiting(facts) if "{" in raw else None

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """The words that our drop-in adds for the argument."""
        name = subject.removeprefix("arg:")
        if isinstance(value, list):
            return {name: " ".join(name if item is True else f"{name}={item}" for item in value)}
        if value is None:
            return {name: ""}
        return {name: name if value is True else f"{name}={value}"}


def _spec(facts: Facts) -> Mapping[str, object]:
    """What the profile being applied says about arguments."""
    spec = facts.specs.get("kernelArguments")
    return spec if isinstance(spec, dict) else {}


def _shown(line: str, name: str) -> SettingValue:
    """Values of an argument; the same one twice is that value."""
    found = list(dict.fromkeys(values_of(line, name)))
    return None if not found else (found[0] if len(found) == 1 else found)


def _isolation_refusal(facts: Facts, value: str) -> str | None:
    flags = [part for part in value.split(",") if part and not part[0].isdigit()]
    if _names_cpu_0(value):
        return "CPU 0 must stay for housekeeping"
    pinned = getattr(facts.specs.get("gpuProcesses"), "action", "report") in ("pin", "migrate")
    if (not flags or "domain" in flags) and not pinned:
        return (
            "isolcpus takes these CPUs from the scheduler for good: unpinned threads are never balanced there; "
            "use managed_irq alone, or set gpuProcesses.action: pin"
        )
    return None


def _hugepages_refusal(facts: Facts) -> str | None:
    """More pages at boot than fit into 90 % of the memory, or of a node's; memory of GPUs does not count."""
    spec = _spec(facts)
    count, size = count_of(str(spec.get("hugepages", "0"))), spec.get("hugepagesz") or spec.get("default_hugepagesz")
    kib = size_kib(str(size)) if size else running_default_kib(facts)
    if count is None or kib is None:
        return None
    memory = {node.id: node.memory_kib or 0 for node in facts.topology.nodes if node.cpus}
    asked = [(count, sum(memory.values()), "")] if isinstance(count, int) else []
    if isinstance(count, dict):
        asked = [(number, memory.get(node, 0), f" of node {node}") for node, number in count.items()]
    for number, total, where in asked:
        if total and number * kib > total * 0.9:
            pages = f"{number} pages of {in_words({'bytes': kib * 1024})}"
            return f"{pages} are {number * kib} KiB, more than 90 % of the {total} KiB{where}"
    return None


def _names_cpu_0(value: str) -> bool:
    return any(re.match(r"0+(-|:|\Z)", part) for part in value.split(","))


TUNABLE = KernelArguments()
