"""Rows of limits, time, storage, the kernel log, and who else tunes this host."""

from __future__ import annotations

import re

from tuneagent.checks.rows import CheckRow, about, among, at_least, command, each, equal, gathered, kernel_log, text
from tuneagent.contracts.values import Absent, Dispute, Observation, Severity, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.conditions import has_nvidia_gpu
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.service_limits import service_limit
from tuneagent.facts.swap_devices import swap_devices

# Xids after which NVIDIA's and Azure's fleet checks take a node out of service.
FATAL_XIDS = frozenset((48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 73, 74, 79, 80, 81, 92, 119, 120))
_CLOCK = "sys/devices/system/clocksource/clocksource0/current_clocksource"
# A path in the file system, and the program that leaves it there.
MANAGERS = {
    "run/tuned/tuned.pid": "TuneD",
    "run/irqbalance": "irqbalance",
    "run/numad.pid": "numad",
    "run/tuned/pprof.pid": "power-profiles-daemon",
    "run/nvidia/validations": "GPU operator",
    "etc/nvidia-mig-manager": "MIG manager",
    "var/lib/ocp-tuned": "node tuning operator",
    "etc/kubernetes/kubelet.conf": "kubelet",
    "etc/eks": "EKS node configuration",
    "home/kubernetes/bin": "GKE node configuration",
    "etc/bottlerocket-release": "Bottlerocket settings",
    "var/lib/waagent": "Azure guest agent",
    "etc/slurm/slurm.conf": "Slurm",
}


def _swap(facts: Facts) -> Observation:
    found = swap_devices(facts)
    return Value(found) if isinstance(found, list) else found


def _managers(facts: Facts) -> Observation:
    files = facts.host.files
    if facts.host.source != "live" and not files.is_dir("run") and not files.is_dir("etc"):
        return Unreadable(f"this {facts.host.source} has neither /run nor /etc")
    return Value(sorted({name for sign, name in MANAGERS.items() if files.exists(sign)}))


def _xids(output: str) -> Observation:
    found = {int(code) for code in re.findall(r"NVRM: Xid \([^)]*\): (\d+)", output)}
    return Value(sorted(found & FATAL_XIDS))


def _switch_errors(output: str) -> Observation:
    return Value(
        sorted({int(code) for code in re.findall(r"nvidia-nvswitch\d+: SXid \([^)]*\): (\d+), Fatal", output)})
    )


def _machine_checks(output: str) -> Observation:
    return Value(output.count("Hardware Error"))


def _newest_kernel(facts: Facts) -> Observation:
    """The running kernel and the newest one in /boot."""
    running = facts.host.observe("proc/sys/kernel/osrelease")
    if not isinstance(running, Value):
        return running
    if not re.match(r"\d+\.\d+", str(running.value)):
        return Unreadable(f"/proc/sys/kernel/osrelease: {str(running.value)[:40]!r} is not a release")
    try:
        names = [
            name.removeprefix("vmlinuz-") for name in facts.host.files.names("boot") if name.startswith("vmlinuz-")
        ]
    except ReadFailed as error:
        return Unreadable(str(error))
    if not names:
        return Absent("no kernel in /boot")
    newest = max(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    return Value({"running": running.value, "newest": newest})


def _synchronized(output: str) -> Observation:
    match = re.search(r"^NTPSynchronized=(yes|no)$", output, re.MULTILINE)
    return Value(match.group(1)) if match else Unreadable("timedatectl: no NTPSynchronized")


def _mounts(facts: Facts) -> Observation:
    """Data file systems (not the root's own) that write access times."""
    seen = facts.host.observe("proc/1/mounts")
    if isinstance(seen, Absent):
        seen = facts.host.observe("proc/mounts")
    if not isinstance(seen, Value):
        return seen
    found = []
    for line in str(seen.value).splitlines():
        fields = line.split()
        if len(fields) < 4:
            return Unreadable("/proc/mounts: unexpected format")
        data = fields[2] in ("xfs", "ext4", "lustre", "beegfs", "wekafs") and fields[1] not in ("/", "/boot")
        if data and not {"noatime", "ro"} & set(fields[3].split(",")):
            found.append(fields[1])
    return Value(sorted(found))


def _nfs(facts: Facts) -> Observation:
    seen = facts.host.observe("proc/mounts")
    if not isinstance(seen, Value):
        return seen
    found: dict[str, int] = {}
    for line in str(seen.value).splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[2] in ("nfs", "nfs4"):
            match = re.search(r"\bnconnect=(\d+)", fields[3])
            found[fields[1]] = int(match.group(1)) if match else 1
    if not found and "/" not in str(seen.value):
        return Unreadable("/proc/mounts: unexpected format")
    return Value(found) if found else Absent("no NFS mount")


def _drives(facts: Facts) -> Observation:
    drives = facts.topology.nvme
    return Value(len(drives)) if drives is not None else Unreadable("the PCI devices of this host are not known")


def _runtime_pm(facts: Facts) -> Observation:
    if facts.topology.nics is None:
        return Unreadable("the PCI devices of this host are not known")
    devices = [*(facts.topology.pci_gpus or ()), *(facts.topology.nics or ()), *(facts.topology.nvme or ())]
    return gathered(
        lambda f: {one.address: f"sys/bus/pci/devices/{one.address}/power/runtime_status" for one in devices},
        _status, "no device reports its power state",
    )(facts)  # fmt: skip


def _status(content: str) -> str:
    if content not in ("active", "suspended", "suspending", "resuming", "unsupported", "error"):
        raise ValueError(content)
    return "suspended" if content in ("suspended", "suspending") else "active"


ROWS: dict[str, CheckRow] = {
    "memlock": CheckRow(
        group="services/time/limits", read=lambda facts: service_limit(facts, "memlock"),
        right=lambda seen, wanted: seen == {"unlimited": "infinity"}.get(wanted, wanted), kind=str | None,
        evidence="systemctl show --property=DefaultLimitMEMLOCK, /proc/1/limits",
        about=about(Severity.HIGH, "memory that cannot be locked cannot be registered for RDMA; NCCL then uses sockets without an error",
                    "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html",
                    "the tunable `limits` sets it for the next boot; containers take it from their runtime's unit"),
    ),
    "clocksource": CheckRow(
        group="services/time/limits", read=text(_CLOCK), right=among, kind=tuple[str, ...], evidence=f"/{_CLOCK}",
        about=about(Severity.MEDIUM, "a slow clock source makes every time stamp a system call or a VM exit",
                    "https://docs.kernel.org/timers/timekeeping.html"),
    ),
    "timeSynchronized": CheckRow(
        group="services/time/limits", read=command(["timedatectl", "show", "--property=NTPSynchronized"], _synchronized),
        right=equal, expect="yes", evidence="timedatectl show",
        about=about(Severity.MEDIUM, "clocks that drift apart break traces across nodes, and certificates",
                    "https://www.freedesktop.org/software/systemd/man/latest/timedatectl.html"),
    ),
    "noSwap": CheckRow(
        group="memory", read=_swap, right=equal, expect=[], evidence="/proc/swaps",
        about=about(Severity.HIGH, "a swapped page in the path that feeds a GPU stalls it for milliseconds",
                    "https://docs.kernel.org/admin-guide/sysctl/vm.html",
                    "run swapoff, and remove the line from /etc/fstab", dispute=Dispute(
"fleet checks want no swap",
"Kubernetes has LimitedSwap, GKE offers it against OOM kills",
"none for GPU nodes; the policy of pods is the kubelet's",
),),
    ),
    "otherManagers": CheckRow(
        group="services/time/limits", read=_managers, right=lambda seen, wanted: not set(seen) - {"kubelet", *(wanted or ())},
        kind=tuple[str, ...], evidence="/run, /etc",
        about=about(Severity.HIGH, "two programs that write the same setting take turns, and the last one wins",
                    "https://github.com/redhat-performance/tuned", "give each setting one owner; name those that stay"),
    ),
    "newestKernel": CheckRow(
        group="health", read=_newest_kernel, right=lambda seen, wanted: seen["running"] == seen["newest"],
        evidence="/boot, /proc/sys/kernel/osrelease",
        about=about(Severity.LOW, "a newer kernel is installed: the next reboot changes more than was planned",
                    "https://docs.kernel.org/admin-guide/"),
    ),
    "noFatalXid": CheckRow(
        group="health", read=kernel_log(_xids),
        right=equal, expect=[], applies=(has_nvidia_gpu,), evidence="dmesg",
        about=about(Severity.CRITICAL, "the driver reported a fault of a GPU since boot",
                    "https://docs.nvidia.com/deploy/xid-errors/",
                    "drain the node; see the Xid catalogue for what to do next"),
    ),
    "noFatalSxid": CheckRow(
        group="health", read=kernel_log(_switch_errors),
        right=equal, expect=[], applies=(has_nvidia_gpu,), evidence="dmesg",
        about=about(Severity.CRITICAL, "an NVSwitch reported a fatal error",
                    "https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/"),
    ),
    "noMachineChecks": CheckRow(
        group="health", read=kernel_log(_machine_checks),
        right=equal, expect=0, evidence="dmesg",
        about=about(Severity.HIGH, "the CPU or its memory reported an error since boot",
                    "https://docs.kernel.org/admin-guide/ras/"),
    ),
    "noAccessTimes": CheckRow(
        group="storage", read=_mounts, right=equal, expect=[], evidence="/proc/mounts",
        about=about(Severity.LOW, "reading a data set writes access times to it",
                    "https://man7.org/linux/man-pages/man8/mount.8.html", "mount with noatime"),
    ),
    "nfsConnectionsMin": CheckRow(
        group="storage", read=_nfs, right=at_least, kind=int | None,
        evidence="/proc/mounts",
        about=about(Severity.MEDIUM, "one TCP connection limits how fast an NFS mount can read",
                    "https://man7.org/linux/man-pages/man5/nfs.5.html", "mount with nconnect=8 or more"),
    ),
    "nvmeCount": CheckRow(
        group="storage", read=_drives, right=equal, kind=int | None, evidence="/sys/bus/pci/devices",
        about=about(Severity.MEDIUM, "a drive that does not answer is missing from the stripe",
                    "https://docs.kernel.org/PCI/sysfs-pci.html"),
    ),
    "devicesAwake": CheckRow(
        group="pcie/iommu", read=_runtime_pm, right=each, expect="active",
        evidence="/sys/bus/pci/devices/*/power/runtime_status",
        about=about(Severity.MEDIUM, "a suspended device wakes on the first use, milliseconds later",
                    "https://docs.kernel.org/power/runtime_pm.html", "the tunable `pciPower` keeps them on"),
    ),
    "lockdown": CheckRow(
        group="kernel", read=text("sys/kernel/security/lockdown"),
        right=lambda seen, wanted: "[none]" in str(seen), evidence="/sys/kernel/security/lockdown",
        about=about(Severity.INFO, "a locked-down kernel refuses PCI and MSR writes: setpci advice does not work here",
                    "https://man7.org/linux/man-pages/man7/kernel_lockdown.7.html"),
    ),
}  # fmt: skip
