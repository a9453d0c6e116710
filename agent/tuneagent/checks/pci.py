"""PCI Express rows: links, peer-to-peer path, errors, IOMMU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tuneagent.checks.rows import CheckRow, about, among, at_least, each, equal, gathered
from tuneagent.contracts.values import Absent, Dispute, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.conditions import arm64, has_nvidia_gpu, has_rdma, metal, x86
from tuneagent.facts.kernel_words import words_of_cmdline
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.pci_config import device_control, redirects_requests
from tuneagent.topology.picture import PciDevice

T = TypeVar("T")
_PCI = "sys/bus/pci/devices"
_SYSFS = "https://docs.kernel.org/PCI/sysfs-pci.html"
_NCCL = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html"


def _devices(facts: Facts, *kinds: str) -> list[PciDevice] | None:
    found: list[PciDevice] = []
    for kind in kinds:
        devices = getattr(facts.topology, kind)
        if devices is None:
            return None
        found += devices
    return found


def _config(facts: Facts, addresses: Iterable[str] | None, read: Callable[[bytes], T | None], none: str) -> Observation:
    """A register of each of these functions."""
    if addresses is None:
        return Unreadable("the PCI devices of this host are not known")
    found: dict[str, Setting] = {}
    for address in addresses:
        path = f"{_PCI}/{address}/config"
        try:
            value = read(facts.host.files.read_bytes(path))
        except PathMissing:
            continue
        except (ReadFailed, ValueError) as error:
            return Unreadable(f"/{path}: {error}")
        if value is not None:
            found[address] = value
    return Value(found) if found else Absent(none)


def _rdma_functions(facts: Facts) -> list[str] | None:
    nics = _devices(facts, "nics")
    if nics is None:
        return None
    return [nic.address for nic in nics if facts.host.files.is_dir(f"{_PCI}/{nic.address}/infiniband")]


def _control(register: str, chosen: Callable[[Facts], list[str] | None]) -> Callable[[Facts], Observation]:
    def one(data: bytes) -> Setting:
        control = device_control(data)
        return None if control is None else getattr(control, register)

    return lambda facts: _config(facts, chosen(facts), one, "no PCI Express function of this kind")


def _gpus_and_nics(facts: Facts) -> list[str] | None:
    devices = _devices(facts, "pci_gpus", "nics")
    return None if devices is None else [one.address for one in devices if one.vendor in ("10de", "15b3")]


def bridges_above(facts: Facts, addresses: Iterable[str]) -> list[str]:
    """PCI bridges on the way from these functions to the root complex, nearest last."""
    found: set[str] = set()
    for address in addresses:
        try:
            real = facts.host.files.resolved(f"{_PCI}/{address}")
        except (PathMissing, ReadFailed):
            continue
        found.update(re.findall(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", real)[:-1])
    return sorted(found)


def _access_control(facts: Facts) -> Observation:
    gpus = _devices(facts, "pci_gpus")
    if gpus is None:
        return Unreadable("the PCI devices of this host are not known")
    above = bridges_above(facts, [gpu.address for gpu in gpus if gpu.vendor == "10de"])
    return _config(facts, above, redirects_requests, "no bridge above a GPU has ACS")


def _links(facts: Facts) -> Observation:
    devices = _devices(facts, "nics", "nvme")
    if devices is None:
        return Unreadable("the PCI devices of this host are not known")
    found: dict[str, Setting] = {}
    for device in devices:
        widths = []
        for name in ("current_link_width", "max_link_width"):
            seen = facts.host.observe(f"{_PCI}/{device.address}/{name}")
            if isinstance(seen, Unreadable):
                return seen
            if isinstance(seen, Value):
                if not str(seen.value).isdigit():
                    return Unreadable(f"/{_PCI}/{device.address}/{name}: {seen.value!r} is not a width")
                widths.append(int(str(seen.value)))
        # Functions without a link of their own report 0 or 255.
        if len(widths) == 2 and 0 < widths[1] <= 32:
            found[device.address] = {"lanes": widths[0], "of": widths[1]}
    return Value(found) if found else Absent("no NIC or NVMe drive reports its link")


def full_width(seen: Mapping[str, Mapping[str, int]], wanted: Setting) -> bool:
    """Every device has all the lanes that it could have."""
    del wanted
    return all(one["lanes"] == one["of"] for one in seen.values())


def _error_files(kind: str) -> Callable[[Facts], Mapping[str, str] | None]:
    def names(facts: Facts) -> Mapping[str, str] | None:
        devices = _devices(facts, "pci_gpus", "nics", "nvme")
        return None if devices is None else {one.address: f"{_PCI}/{one.address}/aer_dev_{kind}" for one in devices}

    return names


def _total(content: str) -> int:
    match = re.search(r"^TOTAL_ERR_\w+ (\d+)$", content, re.MULTILINE)
    if match is None:
        raise ValueError("no total")
    return int(match.group(1))


def _iommu(facts: Facts) -> Observation:
    """Domain type of each GPU's IOMMU group; `off` where there is no group."""
    gpus = _devices(facts, "pci_gpus")
    if gpus is None:
        return Unreadable("the PCI devices of this host are not known")
    found: set[str] = set()
    for gpu in gpus:
        if gpu.vendor != "10de":
            continue
        seen = facts.host.observe(f"{_PCI}/{gpu.address}/iommu_group/type")
        if isinstance(seen, Unreadable):
            return seen
        found.add(str(seen.value) if isinstance(seen, Value) else "off")
    if not found <= {"off", "identity", "DMA", "DMA-FQ", "auto", "unmanaged", "blocked"}:
        return Unreadable(f"/{_PCI}/*/iommu_group/type: {sorted(found)} are not domain types")
    return (
        Value(found.pop()) if len(found) == 1 else Unreadable(f"GPUs are in IOMMU groups of different types: {found}")
    )


def _words(pattern: str) -> Callable[[Facts], Observation]:
    """Arguments of the running kernel that match the whole pattern."""

    def read(facts: Facts) -> Observation:
        seen = words_of_cmdline(facts)
        return Value([word for word in seen if re.fullmatch(pattern, word)]) if isinstance(seen, list) else seen

    return read


ROWS: dict[str, CheckRow] = {
    "pcieAcs": CheckRow(
        group="pcie/iommu", read=_access_control, right=each, expect=False, applies=(has_nvidia_gpu, metal),
        evidence="/sys/bus/pci/devices/*/config",
        about=about(Severity.CRITICAL, "ACS on a bridge above a GPU sends peer-to-peer traffic through the root complex",
                    _NCCL, "setpci ECAP_ACS+6.w=0 on these bridges at each boot; not with tenants or GB200 data-direct", dispute=Dispute(
"NCCL: off on bare metal; 56 % to line rate measured (NCCL issue 949)",
"without it devices are not isolated; GB200 data-direct needs a mask of its own",
"reported on bridges above GPUs, on bare metal, and not for tenants",
),),
    ),
    "pcieLinkWidth": CheckRow(
        group="pcie/iommu", read=_links, right=full_width, applies=(metal,),
        evidence="/sys/bus/pci/devices/*/current_link_width",
        about=about(Severity.HIGH, "a NIC or drive that lost lanes moves half as much data", _SYSFS,
                    "only the width is checked: an idle link may run at a lower speed"),
    ),
    "pcieReadRequestMin": CheckRow(
        group="rdma", read=_control("max_read_request", _rdma_functions), right=at_least, kind=int | None,
        applies=(has_rdma, metal), evidence="/sys/bus/pci/devices/*/config",
        about=about(Severity.MEDIUM, "short read requests keep an RDMA NIC below its line rate",
                    "https://docs.nvidia.com/networking/", "setpci CAP_EXP+8.w; lost at reboot and reset"),
    ),
    "pcieRelaxedOrdering": CheckRow(
        group="rdma", read=_control("relaxed_ordering", _rdma_functions), right=each, applies=(has_rdma, metal),
        evidence="/sys/bus/pci/devices/*/config",
        about=about(Severity.HIGH, "strict ordering halves an RDMA NIC's throughput on EPYC, arm64 and far nodes",
                    "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html", "mlxconfig PCI_WR_ORDERING=1"),
    ),
    "pciePayloadMin": CheckRow(
        group="pcie/iommu", read=_control("max_payload", _gpus_and_nics), right=at_least, kind=int | None,
        applies=(metal,), evidence="/sys/bus/pci/devices/*/config",
        about=about(Severity.MEDIUM, "a payload of 128 bytes wastes the link on headers",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html",
                    "set pci=pcie_bus_perf, or change the firmware setting"),
    ),
    "pcieFatalErrors": CheckRow(
        group="pcie/iommu", read=gathered(_error_files("fatal"), _total, "no device counts errors"), right=each, expect=0,
        evidence="/sys/bus/pci/devices/*/aer_dev_fatal",
        about=about(Severity.CRITICAL, "a fatal link error aborted transfers in progress",
                    "https://docs.kernel.org/PCI/pcieaer-howto.html", "reseat; replace if it returns"),
    ),
    "pcieNonfatalErrors": CheckRow(
        group="pcie/iommu", read=gathered(_error_files("nonfatal"), _total, "no device counts errors"), right=each,
        expect=0, evidence="/sys/bus/pci/devices/*/aer_dev_nonfatal",
        about=about(Severity.HIGH, "errors that the link could not correct by itself",
                    "https://docs.kernel.org/PCI/pcieaer-howto.html"),
    ),
    "iommuMode": CheckRow(
        group="pcie/iommu", read=_iommu, right=among, kind=tuple[str, ...], applies=(has_nvidia_gpu, metal, x86),
        evidence="/sys/bus/pci/devices/*/iommu_group/type",
        about=about(Severity.HIGH,
                    "translated DMA is slower on x86; Grace needs it, and above 255 CPUs turning it off loses CPUs",
                    "https://docs.nvidia.com/gpudirect-storage/best-practices-guide/", "iommu=pt on x86", dispute=Dispute(
"GPUDirect Storage: off gives the best results on x86",
"AMD: pt, since off loses CPUs above 255; Grace and virtual machines need it on",
"identity or off on x86, translated on Grace, never one value for all",
),),
    ),
    "iommuTranslated": CheckRow(
        group="pcie/iommu", read=_iommu, right=among, expect=["DMA", "DMA-FQ"], applies=(has_nvidia_gpu, metal, arm64),
        evidence="/sys/bus/pci/devices/*/iommu_group/type",
        about=about(Severity.HIGH,
                    "Grace needs the IOMMU on and translating; with passthrough, GPUDirect Storage fails",
                    "https://docs.nvidia.com/gpudirect-storage/best-practices-guide/", "no iommu.passthrough=1"),
    ),
    "pcieErrorReporting": CheckRow(
        group="kernel arguments", read=_words(r"pci=(.*,)?noaer(,.*)?"), right=equal, expect=[],
        evidence="/proc/cmdline",
        about=about(Severity.LOW, "with pci=noaer link errors go unnoticed",
                    "https://docs.kernel.org/admin-guide/kernel-parameters.html"),
    ),
    "mitigations": CheckRow(
        group="kernel arguments", read=_words(r"mitigations=off|nopti|nospectre_v[12]|spectre_v2=off|mds=off"), right=equal,
        expect=[], evidence="/proc/cmdline",
        about=about(Severity.HIGH,
                    "switched off, one tenant can read another's memory; no gain for GPU work was measured",
                    "https://docs.kernel.org/admin-guide/hw-vuln/", "a decision for security, not for tuning", dispute=Dispute(
"folklore: off is faster",
"no slow-down was measured in TensorFlow and Caffe jobs; tenants can read each other",
"never changed, reported when off",
),),
    ),
}  # fmt: skip
