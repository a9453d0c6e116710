"""CPU and interrupt rows, and the kernel settings that affect them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuneagent.checks.rows import CheckRow, about, at_most, each, equal, exists, field, gathered, number
from tuneagent.contracts.values import Absent, Dispute, Observation, Severity, Unreadable, Value
from tuneagent.facts.conditions import metal, nothing_known
from tuneagent.facts.kernel_words import words_of_cmdline
from tuneagent.facts.kubelet import has_kubelet
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist

_CPU = "sys/devices/system/cpu"


def _cpus_missing(facts: Facts) -> Observation:
    lists = {}
    for name in ("online", "present"):
        seen = facts.host.observe(f"{_CPU}/{name}")
        if not isinstance(seen, Value):
            return seen
        try:
            lists[name] = parse_cpulist(str(seen.value))
        except ValueError as error:
            return Unreadable(f"/{_CPU}/{name}: {error}")
    control = facts.host.files.read_or(f"{_CPU}/smt/control", "")
    missing = lists["present"] - lists["online"]
    # With SMT switched off the siblings are offline on purpose.
    return Value("" if control in ("off", "forceoff") else format_cpulist(missing))


def _isolated_cpu_0(facts: Facts) -> Observation:
    seen = facts.host.observe(f"{_CPU}/isolated")
    if not isinstance(seen, Value):
        return seen
    try:
        return Value(0 in parse_cpulist(str(seen.value)))
    except ValueError as error:
        return Unreadable(f"/{_CPU}/isolated: {error}")


def _steal(facts: Facts) -> Observation:
    seen = facts.host.observe("proc/stat")
    if not isinstance(seen, Value):
        return seen
    match = re.match(r"cpu\s+((?:\d+\s*){8,10})$", str(seen.value).partition("\n")[0])
    if match is None:
        return Unreadable("/proc/stat: no line for all CPUs")
    ticks = [int(word) for word in match.group(1).split()]
    return Value(round(100 * ticks[7] / max(sum(ticks[:8]), 1), 2))


def _throttle_files(facts: Facts) -> Mapping[str, str]:
    return {
        f"cpu{cpu}": f"{_CPU}/cpu{cpu}/thermal_throttle/core_throttle_count" for cpu in sorted(facts.topology.online)
    }


def _microcode(facts: Facts) -> Observation:
    seen = facts.host.observe("proc/cpuinfo")
    if not isinstance(seen, Value):
        return seen
    found = sorted(set(re.findall(r"^microcode\s*:\s*(\S+)", str(seen.value), re.MULTILINE)))
    return Value(found) if found else Absent("this CPU reports no microcode revision")


def _softnet(facts: Facts) -> Observation:
    if not facts.host.namespace_is_hosts("net"):
        return Unreadable("this process's net namespace cannot be proven to be the host's")
    seen = facts.host.observe("proc/net/softnet_stat")
    if not isinstance(seen, Value):
        return seen
    try:
        return Value(sum(int(line.split()[1], 16) for line in str(seen.value).splitlines()))
    except (ValueError, IndexError):
        return Unreadable("/proc/net/softnet_stat: unexpected format")


def _cpu_limits(facts: Facts) -> Observation:
    seen = words_of_cmdline(facts)
    if not isinstance(seen, list):
        return seen
    return Value([word for word in seen if word.partition("=")[0] in ("maxcpus", "nr_cpus", "nosmp", "noapic")])


def _domain_isolation(facts: Facts) -> Observation:
    """CPUs that `isolcpus` takes from the scheduler's domains; `managed_irq` alone takes none."""
    seen = words_of_cmdline(facts)
    if not isinstance(seen, list):
        return seen
    found = []
    for word in seen:
        key, _, value = word.partition("=")
        flags = [part for part in value.split(",") if part and not part[0].isdigit()]
        if key == "isolcpus" and (not flags or "domain" in flags):
            found.append(word)
    return Value(found)


def _pods_throttled(facts: Facts) -> Observation:
    for path in ("sys/fs/cgroup/kubepods.slice/cpu.stat", "sys/fs/cgroup/kubepods/cpu.stat"):
        if facts.host.files.exists(path):
            return field(path, r"^nr_throttled (\d+)$", int)(facts)
    return nothing_known(facts, "sys/fs/cgroup") or Absent("no cgroup for pods")


def _pressure(resource: str) -> CheckRow:
    high = Severity.MEDIUM
    path = f"proc/pressure/{resource}"
    return CheckRow(
        group="cpu" if resource == "cpu" else "memory",
        read=field(path, r"^some .*avg60=(\d+\.\d+)", float),
        right=at_most,
        kind=float | None,
        about=about(high, f"tasks wait for {resource}, including the threads that feed GPUs",
                    "https://docs.kernel.org/accounting/psi.html", f"find out what uses the {resource}"),
        evidence=f"/{path}",
    )  # fmt: skip


ROWS: dict[str, CheckRow] = {
    "cpusOnline": CheckRow(
        group="cpu", read=_cpus_missing, right=equal, expect="", evidence=f"/{_CPU}/online, /{_CPU}/present",
        about=about(Severity.HIGH, "an offline CPU is paid for but does no work",
                    "https://docs.kernel.org/core-api/cpu_hotplug.html",
                    "check maxcpus, nr_cpus and the firmware; then remove a static kubelet's state file"),
    ),
    "cpuLimitArguments": CheckRow(
        group="kernel arguments", read=_cpu_limits, right=equal, expect=[], evidence="/proc/cmdline",
        about=about(Severity.HIGH, "maxcpus and nr_cpus hide CPUs from everyone",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html"),
    ),
    "cpu0Housekeeping": CheckRow(
        group="cpu", read=_isolated_cpu_0, right=equal, expect=False, evidence=f"/{_CPU}/isolated",
        about=about(Severity.HIGH, "CPU 0 runs work that cannot be moved; isolating it stalls that work and the job",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html",
                    "remove CPU 0 from isolcpus or from the isolated partition"),
    ),
    "noDomainIsolation": CheckRow(
        group="kernel arguments", read=_domain_isolation, right=equal, expect=[], evidence="/proc/cmdline",
        applies=(has_kubelet,),
        about=about(Severity.HIGH, "the kubelet ignores isolcpus: pods on these CPUs are never balanced",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html",
                    "isolate with cpuset partitions or the kubelet's static policy", dispute=Dispute(
"TuneD's cpu-partitioning and realtime isolate with isolcpus",
"the kernel calls that deprecated and irreversible; the kubelet ignores it",
"only managed_irq; cpusets for the rest",
),),
    ),
    "cpuPressureMax": _pressure("cpu"),
    "memoryPressureMax": _pressure("memory"),
    "cpuStealMax": CheckRow(
        group="cpu", read=_steal, right=at_most, kind=float | None, evidence="/proc/stat",
        about=about(Severity.HIGH, "the hypervisor gave this machine's CPU time to another",
                    "https://docs.kernel.org/filesystems/proc.html", "ask for dedicated CPUs"),
    ),
    "cpuThrottled": CheckRow(
        group="cpu", read=gathered(_throttle_files, int, "no CPU has a throttle counter", _CPU), right=each, expect=0,
        evidence=f"/{_CPU}/cpu*/thermal_throttle/core_throttle_count",
        about=about(Severity.MEDIUM, "a CPU has overheated since boot and ran below its normal clock",
                    "https://docs.kernel.org/admin-guide/thermal/intel_powerclamp.html", "check fans and inlet air"),
    ),
    "microcode": CheckRow(
        group="cpu", read=_microcode, right=lambda seen, wanted: len(seen) == wanted, expect=1,
        evidence="/proc/cpuinfo", applies=(metal,),
        about=about(Severity.MEDIUM, "CPUs with different microcode behave differently under the same load",
                    "https://docs.kernel.org/arch/x86/microcode.html"),
    ),
    "podsThrottled": CheckRow(
        group="cpu", read=_pods_throttled, right=equal, expect=0, evidence="/sys/fs/cgroup/kubepods.slice/cpu.stat",
        applies=(has_kubelet,),
        about=about(Severity.MEDIUM, "a CPU quota stops launch threads for the rest of a period",
                    "https://kubernetes.io/docs/concepts/policy/node-resource-managers/",
                    "give GPU pods whole CPUs as Guaranteed pods, or no limit"),
    ),
    "softnetDrops": CheckRow(
        group="irq", read=_softnet, right=equal, expect=0, evidence="/proc/net/softnet_stat",
        about=about(Severity.MEDIUM, "packets were dropped because a CPU could not process them in time",
                    "https://docs.kernel.org/networking/scaling.html",
                    "raise net.core.netdev_max_backlog, or spread interrupts over more CPUs"),
    ),
    "addressRandomization": CheckRow(
        group="kernel", read=number("proc/sys/kernel/randomize_va_space"), right=equal, expect=2,
        evidence="/proc/sys/kernel/randomize_va_space",
        about=about(Severity.MEDIUM, "often off on old benchmark advice; without it exploits are easy",
                    "https://docs.kernel.org/admin-guide/sysctl/kernel.html", "kernel.randomize_va_space = 2"),
    ),
    "cgroupV2": CheckRow(
        group="container runtime", read=exists("sys/fs/cgroup/cgroup.controllers", "sys/fs/cgroup"), right=equal,
        evidence="/sys/fs/cgroup/cgroup.controllers",
        about=about(Severity.MEDIUM, "cpuset partitions, pressure and swap limits of pods need the unified cgroup tree",
                    "https://docs.kernel.org/admin-guide/cgroup-v2.html", "add the kernel argument systemd.unified_cgroup_hierarchy=1 and reboot"),
    ),
}  # fmt: skip
