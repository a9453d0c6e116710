"""gpuHealth: what NVML reports of each GPU's state. Report only: never resets a GPU or changes a clock or ECC mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from tuneagent.checks.rows import Compare, about, at_least, at_most, comparison_of, equal
from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.gpu import missing_gpu, subjects_of_gpus

_NVML = "https://docs.nvidia.com/deploy/nvml-api/"
# nvmlClocksEventReasons: hardware slowdown, software thermal, hardware thermal, power brake. A power cap at full load
# and an idle GPU are not faults.
BAD_CLOCK_REASONS = {0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}


class GpuHealthRow(msgspec.Struct, frozen=True):
    """One fact about a GPU: how it is read from NVML's answers, which value is right, and why it matters."""

    read: Callable[[GpuDevice], Observation]
    right: Compare
    about: About
    expect: object = True
    kind: object = bool


def _field(name: str) -> Callable[[GpuDevice], Observation]:
    return lambda device: device.observe(name)


def _reasons(device: GpuDevice) -> Observation:
    seen = device.observe("clock_event_reasons")
    if not isinstance(seen, Value):
        return seen
    return Value([name for bit, name in BAD_CLOCK_REASONS.items() if (device.clock_event_reasons or 0) & bit])


def _both(first: str, second: str) -> Callable[[GpuDevice], Observation]:
    def read(device: GpuDevice) -> Observation:
        seen = [device.observe(name) for name in (first, second)]
        values = [one.value for one in seen if isinstance(one, Value)]
        return Value(values) if len(values) == 2 else next(one for one in seen if not isinstance(one, Value))

    return read


def _margin(device: GpuDevice) -> Observation:
    if device.temperature_c is None or device.slowdown_c is None:
        return _both("temperature_c", "slowdown_c")(device)
    return Value(device.slowdown_c - device.temperature_c)


def _mig_modes(device: GpuDevice) -> Observation:
    seen = device.observe("mig")
    return Value([device.mig.current, device.mig.pending]) if isinstance(seen, Value) and device.mig else seen


def _bar1_share(device: GpuDevice) -> Observation:
    if device.bar1_mib is None or device.memory_mib is None:
        return _both("bar1_mib", "memory_mib")(device)
    return Value(round(100 * device.bar1_mib / max(device.memory_mib, 1)))


def _leftover(device: GpuDevice) -> Observation:
    """MiB in use beyond what the driver keeps for itself while no process uses the GPU; 0 where one does."""
    used, pids = device.observe("memory_used_mib"), device.observe("pids")
    if not isinstance(used, Value) or not isinstance(pids, Value):
        return used if not isinstance(used, Value) else pids
    inside = [pid for instance in device.mig.instances for pid in instance.pids] if device.mig else []
    return Value(0 if pids.value or inside else used.value)


def _down_links(device: GpuDevice) -> Observation:
    if device.nvlinks is None:
        return device.observe("nvlinks")
    return Value([number for number, up in enumerate(device.nvlinks) if not up])


def _without_access(device: GpuDevice) -> Observation:
    """Indexes of the GPUs whose memory this one may not read."""
    if device.peers is None:
        return device.observe("peers")
    return Value([int(index) for index, may in device.peers.items() if not may])


def _same(seen: Sequence[object], wanted: object) -> bool:
    del wanted
    return bool(seen[0] == seen[1])


ROWS: dict[str, GpuHealthRow] = {
    "eccOn": GpuHealthRow(_field("ecc_current"), equal, about(
        Severity.HIGH, "without ECC a flipped bit is a wrong result that nobody notices", _NVML, "needs a GPU reset")),
    "eccNotPending": GpuHealthRow(_both("ecc_current", "ecc_pending"), _same, about(
        Severity.MEDIUM, "a pending ECC mode takes effect at the next GPU reset", _NVML)),
    "noUncorrectedErrors": GpuHealthRow(_field("ecc_uncorrected"), equal, about(
        Severity.CRITICAL, "uncorrected errors since the driver was loaded", _NVML, "drain; reset; replace if they return"), 0),
    "noRemapPending": GpuHealthRow(_field("remap_pending"), equal, about(
        Severity.CRITICAL, "a row remap is pending: the memory is bad until the GPU is reset",
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/", "drain the node and reset the GPU"), False),
    "noRemapFailure": GpuHealthRow(_field("remap_failure"), equal, about(
        Severity.CRITICAL, "no spare row is left: the card must be replaced",
        "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/"), False),
    "noThrottle": GpuHealthRow(_reasons, equal, about(
        Severity.CRITICAL, "the hardware slows the clocks, by half or more",
        "https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html",
        "check cooling and power supply"), []),
    "temperatureMarginMin": GpuHealthRow(_margin, at_least, about(
        Severity.HIGH, "degrees left before the GPU slows itself down", _NVML, "check cooling"), None, int | None),
    "pcieWidth": GpuHealthRow(_both("pcie_width", "pcie_max_width"), _same, about(
        Severity.HIGH, "lost lanes halve every copy; the link speed, not its width, drops while the GPU idles",
        "nvml.h: nvmlDeviceGetCurrPcieLinkWidth", "reseat the card or the riser")),
    "pcieReplaysMax": GpuHealthRow(_field("pcie_replays"), at_most, about(
        Severity.HIGH, "packets on the link had to be resent", _NVML,
        "poor signal integrity: reseat"), None, int | None),
    "bar1ShareMin": GpuHealthRow(_bar1_share, at_least, about(
        Severity.MEDIUM, "per cent of the GPU's memory that a NIC can reach at once", _NVML,
        "enable above-4G decoding and resizable BAR in the firmware"), None, int | None),
    "nvlinksUp": GpuHealthRow(_down_links, equal, about(
        Severity.CRITICAL, "a link that is down takes its share of bandwidth from every collective", _NVML), []),
    "peerAccess": GpuHealthRow(_without_access, equal, about(
        Severity.HIGH, "GPUs that cannot read each other's memory copy through host memory", _NVML,
        "check IOMMU and ACS on bare metal, or the topology given to a virtual machine"), []),
    "powerLimitDefault": GpuHealthRow(_both("power_limit_w", "power_default_w"), lambda seen, wanted: bool(seen[0] >= seen[1]), about(
        Severity.MEDIUM, "a limit below the card's default costs clocks under load", _NVML,
        "the tunable `gpu` sets powerLimitW; first find out who lowered it")),
    "computeModeDefault": GpuHealthRow(_field("compute_mode"), equal, about(
        Severity.MEDIUM, "exclusive or prohibited: the second process on the GPU fails", _NVML), "default"),
    "migNotPending": GpuHealthRow(_mig_modes, _same, about(
        Severity.HIGH, "a pending MIG mode takes effect at the next GPU reset", _NVML)),
    "memoryLeftoverMaxMib": GpuHealthRow(_leftover, at_most, about(
        Severity.MEDIUM, "memory is held and no process owns it", _NVML,
        "find a process in another namespace, or reset the GPU"),
        None, int | None),
    "persistence": GpuHealthRow(_field("persistence"), equal, about(
        Severity.HIGH, "without persistence the driver forgets clocks and limits when the last client ends",
        "https://docs.nvidia.com/deploy/driver-persistence/", "the tunable `gpu` sets it")),
}  # fmt: skip

Spec = msgspec.defstruct(
    "Spec",
    [(name, row.kind, False if row.kind is bool else None) for name, row in sorted(ROWS.items())],
    frozen=True,
    forbid_unknown_fields=True,
)


class GpuHealth(Tunable[msgspec.Struct, object]):
    """State of each GPU."""

    name = "gpuHealth"
    group = "gpu settings"
    spec_type = Spec
    merges = True
    prefix = "gpu:"
    rows = tuple(ROWS)
    about = About(Severity.HIGH, "one slow GPU holds back every rank of a job", (_NVML,))
    report_only = True

    def subjects(self, facts: Facts, spec: msgspec.Struct) -> Sequence[Subject]:
        """One for each GPU and row of the spec."""
        chosen = [f"/{name}" for name in ROWS if getattr(spec, name) is not None and getattr(spec, name) is not False]
        return subjects_of_gpus(facts, *chosen) if chosen else []

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """One fact of one GPU."""
        missing = missing_gpu(facts, subject)
        if missing is not None or not isinstance(facts.gpus, GpuSnapshot):
            return missing or Reading(Unreadable("NVML was not asked"), evidence="NVML")
        uuid, _, name = subject.removeprefix("gpu:").partition("/")
        device = facts.gpus.device(uuid)
        if device is None or name not in ROWS:
            return Reading(Absent("no such GPU now"), evidence="NVML")
        return Reading(ROWS[name].read(device), evidence=f"NVML, index {device.index}")

    def desire(
        self, facts: Facts, spec: msgspec.Struct, readings: Mapping[Subject, Reading]
    ) -> Mapping[Subject, object]:
        """The row's own expectation, or the profile's number."""
        desired: dict[Subject, object] = {}
        for subject in readings:
            name = subject.rpartition("/")[2]
            if name in ROWS:
                row = ROWS[name]
                desired[subject] = row.expect if row.kind is bool else getattr(spec, name)
        return desired

    def matches(self, subject: Subject, observed: object, desired: object) -> bool:
        """The row's own comparison."""
        return ROWS[subject.rpartition("/")[2]].right(observed, desired)

    def comparison(self, subject: Subject, desired: object) -> Comparison:
        """The row's own."""
        row = ROWS.get(subject.removeprefix(self.prefix).rpartition("/")[2])
        return comparison_of(row.right) if row else "rule"

    def describe(self, subject: Subject) -> About:
        """The row's own."""
        row = ROWS.get(subject.removeprefix(self.prefix).rpartition("/")[2])
        return row.about if row else self.about


TUNABLE = GpuHealth()
