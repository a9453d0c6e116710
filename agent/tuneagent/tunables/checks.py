"""checks: one table of settings that are reported and never written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tuneagent.errors import PathMissing, ProfileInvalid, ReadFailed
from tuneagent.gpu import GpuSnapshot
from tuneagent.model import About, Observation, Reading, Setting, Severity, Subject, Unreadable, Value
from tuneagent.topology import normal_address
from tuneagent.tunable import Facts, Tunable
from tuneagent.tuning_profile import load_yaml

KUBELET_CONFIG = "var/lib/kubelet/config.yaml"


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Which checks, and what they want. What is not given is not checked."""

    memlock: str | None = None
    clocksource: tuple[str, ...] = ()
    driver_matches_module: bool = False
    driver_min: str | None = None
    pcie_width: bool = False
    swap: bool | None = None
    cpu_manager_policy: str | None = None
    topology_manager_policy: tuple[str, ...] = ()


def _memlock(facts: Facts) -> Observation:
    # Limits of pid 1 are what services start from; those of this shell say nothing about a job.
    seen = facts.host.observe("proc/1/limits")
    if not isinstance(seen, Value):
        return seen
    match = re.search(r"^Max locked memory\s+(\S+)\s+(\S+)", str(seen.value), re.MULTILINE)
    return Value(match.group(1)) if match else Unreadable("/proc/1/limits: no line `Max locked memory`")


def _clocksource(facts: Facts) -> Observation:
    return facts.host.observe("sys/devices/system/clocksource/clocksource0/current_clocksource")


def _driver(facts: Facts) -> Observation:
    if not isinstance(facts.gpus, GpuSnapshot):
        return facts.gpus
    return Value(facts.gpus.driver_version)


def _driver_and_module(facts: Facts) -> Observation:
    library = _driver(facts)
    if not isinstance(library, Value):
        return library
    module = facts.host.observe("sys/module/nvidia/version")
    if not isinstance(module, Value):
        return module
    return Value({"library": library.value, "module": module.value})


def _pcie_width(facts: Facts) -> Observation:
    if not isinstance(facts.gpus, GpuSnapshot):
        return facts.gpus
    widths: dict[str, str] = {}
    for device in facts.gpus.devices:
        if device.pcie_width is None or device.pcie_max_width is None or device.pci is None:
            return Unreadable(f"NVML: {device.errors.get('pcie_width', 'no link width')} on GPU {device.index}")
        widths[normal_address(device.pci)] = f"x{device.pcie_width} of x{device.pcie_max_width}"
    return Value(widths)


def _swap(facts: Facts) -> Observation:
    seen = facts.host.observe("proc/swaps")
    if not isinstance(seen, Value):
        return seen
    return Value(sorted(line.split()[0] for line in str(seen.value).splitlines()[1:] if line.split()))


def _kubelet(field: str, default: str) -> Callable[[Facts], Observation]:
    def read(facts: Facts) -> Observation:
        try:
            document = load_yaml(facts.host.files.read(KUBELET_CONFIG), KUBELET_CONFIG)
        except PathMissing:
            return facts.host.missing(KUBELET_CONFIG)
        except (ReadFailed, ProfileInvalid) as error:
            return Unreadable(str(error))
        if not isinstance(document, dict):
            return Unreadable(f"/{KUBELET_CONFIG}: not a mapping")
        return Value(document.get(field, default))

    return read


class Row(msgspec.Struct, frozen=True):
    """One check: how it is read, when a value is right, and why it matters."""

    read: Callable[[Facts], Observation]
    wanted: Callable[[Spec], Setting]
    right: Callable[[Setting, Setting], bool]
    about: About
    evidence: str


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


ROWS: dict[str, Row] = {
    "check:memlock": Row(
        _memlock,
        lambda spec: spec.memlock,
        lambda seen, wanted: bool(seen == wanted),
        About(
            Severity.HIGH,
            "memory that cannot be locked cannot be registered for RDMA; NCCL then uses sockets without an error",
            ("https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html",),
            "DefaultLimitMEMLOCK=infinity in /etc/systemd/system.conf.d, and in the container runtime's unit",
        ),
        "/proc/1/limits",
    ),
    "check:clocksource": Row(
        _clocksource,
        lambda spec: list(spec.clocksource) or None,
        lambda seen, wanted: seen in wanted,
        About(
            Severity.MEDIUM,
            "a slow clock source makes every time stamp a system call or a VM exit",
            ("https://docs.kernel.org/timers/timekeeping.html",),
        ),
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    ),
    "check:driver-module": Row(
        _driver_and_module,
        lambda spec: "library equals module" if spec.driver_matches_module else None,
        lambda seen, wanted: seen["library"] == seen["module"],
        About(
            Severity.CRITICAL,
            "a user-space driver other than the loaded module ends every CUDA start with an error",
            ("https://docs.nvidia.com/deploy/cuda-compatibility/",),
            "reload the driver or reboot after its packages were upgraded",
        ),
        "NVML, /sys/module/nvidia/version",
    ),
    "check:driver-version": Row(
        _driver,
        lambda spec: spec.driver_min,
        lambda seen, wanted: _version(seen) >= _version(wanted),
        About(
            Severity.MEDIUM,
            "an older driver lacks what the CUDA version in the images needs",
            ("https://docs.nvidia.com/deploy/cuda-compatibility/",),
        ),
        "NVML",
    ),
    "check:pcie-width": Row(
        _pcie_width,
        lambda spec: "full width" if spec.pcie_width else None,
        lambda seen, wanted: all(len(set(text.split(" of "))) == 1 for text in seen.values()),
        About(
            Severity.HIGH,
            "lost lanes halve every copy; the link speed, not its width, drops while the GPU idles",
            ("nvml.h: nvmlDeviceGetCurrPcieLinkWidth",),
            "reseat the card or the riser; compare with the machines beside it",
        ),
        "NVML",
    ),
    "check:swap": Row(
        _swap,
        lambda spec: [] if spec.swap is False else None,
        lambda seen, wanted: bool(seen == wanted),
        About(
            Severity.HIGH,
            "a swapped page in the path that feeds a GPU stalls it for milliseconds",
            ("https://docs.kernel.org/admin-guide/sysctl/vm.html",),
            "swapoff, and the line out of /etc/fstab",
        ),
        "/proc/swaps",
    ),
    "check:kubelet-cpu-manager": Row(
        _kubelet("cpuManagerPolicy", "none"),
        lambda spec: spec.cpu_manager_policy,
        lambda seen, wanted: bool(seen == wanted),
        About(
            Severity.MEDIUM,
            "without the static policy no pod gets cores of its own",
            ("https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/",),
            "the kubelet will not start with another policy than in its state file: drain, and remove that file",
        ),
        f"/{KUBELET_CONFIG}",
    ),
    "check:kubelet-topology-manager": Row(
        _kubelet("topologyManagerPolicy", "none"),
        lambda spec: list(spec.topology_manager_policy) or None,
        lambda seen, wanted: seen in wanted,
        About(
            Severity.MEDIUM,
            "with policy none a pod's GPU, NIC and CPUs may lie on different NUMA nodes",
            ("https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/",),
        ),
        f"/{KUBELET_CONFIG}",
    ),
}


class Checks(Tunable[Spec]):
    """Report-only rows."""

    name = "checks"
    group = "health"
    spec_type = Spec
    about = About(Severity.MEDIUM, "settings that tuneagent reports and leaves to people")
    report_only = True

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """Rows that the spec wants something of."""
        return [name for name, row in ROWS.items() if row.wanted(spec) is not None]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One row."""
        row = ROWS[subject]
        return Reading(row.read(facts), evidence=row.evidence)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Setting]:
        """What the spec wants, wrapped with the row so that `matches` can compare."""
        return {subject: {"check": subject, "want": ROWS[subject].wanted(spec)} for subject in readings}

    def matches(self, observed: Setting, desired: Setting) -> bool:
        """The row's own comparison."""
        return ROWS[desired["check"]].right(observed, desired["want"])

    def describe(self, subject: Subject) -> About:
        """The row's own."""
        return ROWS[subject].about


TUNABLE = Checks()
