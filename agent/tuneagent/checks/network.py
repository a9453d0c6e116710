"""Network and RDMA rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tuneagent.checks.rows import CheckRow, about, at_least, at_most, each, equal, exists, gathered
from tuneagent.contracts.values import Absent, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import CommandFailed
from tuneagent.facts.conditions import has_nvidia_gpu, has_rdma
from tuneagent.facts.host_name import running_release
from tuneagent.facts.one_pass import Facts

_NET = "sys/class/net"
_IB = "sys/class/infiniband"
_STATISTICS = "https://docs.kernel.org/networking/statistics.html"
_NCCL = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"


def links_up(facts: Facts) -> list[str]:
    """Interfaces of PCI NICs whose link is up."""
    names = [name for nic in facts.topology.nics or () for name in nic.names]
    return [name for name in names if facts.host.files.read_or(f"{_NET}/{name}/operstate", "") == "up"]


def _hosts_network(facts: Facts) -> Observation | None:
    """Why this host's interfaces cannot be read; None where they can be."""
    if not facts.host.namespace_is_hosts("net"):
        return Unreadable("this process's net namespace cannot be proven to be the host's")
    if facts.topology.nics is None:
        return Unreadable("the PCI devices of this host are not known")
    return None


def _per_link(file: str, convert: Callable[[str], Setting]) -> Callable[[Facts], Observation]:
    def read(facts: Facts) -> Observation:
        hidden = _hosts_network(facts)
        if hidden is not None:
            return hidden
        found = gathered(lambda f: {name: f"{_NET}/{name}/{file}" for name in links_up(f)}, convert, "no NIC is up")(
            facts
        )
        if not (isinstance(found, Value) and isinstance(found.value, dict)):
            return found
        # A virtual NIC has no speed and no duplex of its own.
        known = {name: value for name, value in found.value.items() if value not in ("unknown", -1)}
        return Value(known) if known else Absent("no NIC reports it")

    return read


def _rings(facts: Facts) -> Observation:
    hidden = _hosts_network(facts)
    if hidden is not None:
        return hidden
    found: dict[str, Setting] = {}
    for name in links_up(facts):
        try:
            done = facts.host.exec.run(["ethtool", "-g", name])
        except CommandFailed as error:
            return Unreadable(str(error))
        sizes = [int(size) for size in re.findall(r"^RX:\s+(\d+)$", done.stdout, re.MULTILINE)]
        if done.code == 0 and len(sizes) == 2:
            found[name] = {"entries": sizes[1], "of": sizes[0]}
    return Value(found) if found else Absent("no NIC reports its ring sizes")


def _ports(file: str) -> Callable[[Facts], Mapping[str, str]]:
    def names(facts: Facts) -> Mapping[str, str]:
        files = facts.host.files
        return {
            f"{device}/{port}": f"{_IB}/{device}/ports/{port}/{file}"
            for device in files.names(_IB)
            for port in files.names(f"{_IB}/{device}/ports")
        }

    return names


def _state(content: str) -> str:
    # `4: ACTIVE`
    code, separator, word = content.partition(": ")
    if not separator or not code.isdigit():
        raise ValueError(content)
    return word


def _rate(content: str) -> int:
    # `400 Gb/sec (4X NDR)`
    return int(content.split(maxsplit=1)[0])


def _port_row(file: str, convert: Callable[[str], Setting]) -> Callable[[Facts], Observation]:
    return gathered(_ports(file), convert, "no RDMA port reports it", _IB)


def _gpudirect(facts: Facts) -> Observation:
    """Names of the usable paths between NIC and GPU memory."""
    ways = []
    if facts.host.files.is_dir("sys/module/nvidia_peermem"):
        ways.append("nvidia-peermem")
    version = facts.host.observe("proc/driver/nvidia/version")
    if isinstance(version, Unreadable):
        return version
    if isinstance(version, Absent):
        return Absent("no NVIDIA kernel module")
    if not str(version.value).startswith("NVRM"):
        return Unreadable("/proc/driver/nvidia/version: unexpected format")
    release = running_release(facts.host)
    is_open = "Open Kernel Module" in str(version.value)
    if is_open and release is not None and release >= (5, 12):
        ways.append("DMA-BUF")
    return Value(ways)


def _gids(facts: Facts) -> Observation:
    """Ports whose GID 3 is of RoCE v2 (the index that most fleets use)."""
    return gathered(_ports("gid_attrs/types/3"), str, "no port has a GID 3", _IB)(facts)


ROWS: dict[str, CheckRow] = {
    "mtuMin": CheckRow(
        group="network", read=_per_link("mtu", int), right=at_least, kind=int | None, evidence=f"/{_NET}/*/mtu",
        about=about(Severity.MEDIUM, "small frames cost CPU time per packet that jumbo frames save",
                    "https://docs.kernel.org/networking/",
                    "only if the whole path supports it; test with fragmentation disabled"),
    ),
    "linkSpeedMin": CheckRow(
        group="network", read=_per_link("speed", int), right=at_least, kind=int | None, evidence=f"/{_NET}/*/speed",
        about=about(Severity.CRITICAL, "a link that negotiated down moves a fraction (Mbit/s)",
                    "https://docs.kernel.org/networking/ethtool-netlink.html", "check cable, optics and switch port"),
    ),
    "fullDuplex": CheckRow(
        group="network", read=_per_link("duplex", str), right=each, expect="full", evidence=f"/{_NET}/*/duplex",
        about=about(Severity.HIGH, "half duplex means that negotiation failed",
                    "https://docs.kernel.org/networking/ethtool-netlink.html"),
    ),
    "receiveErrors": CheckRow(
        group="network", read=_per_link("statistics/rx_crc_errors", int), right=each, expect=0,
        evidence=f"/{_NET}/*/statistics/rx_crc_errors",
        about=about(Severity.HIGH, "damaged frames are resent, much later", _STATISTICS, "check cable and optics"),
    ),
    "receiveMissedMax": CheckRow(
        group="network", read=_per_link("statistics/rx_missed_errors", int), right=at_most, kind=int | None,
        evidence=f"/{_NET}/*/statistics/rx_missed_errors",
        about=about(Severity.MEDIUM, "the host did not take packets from the NIC in time", _STATISTICS,
                    "try larger rings, more queues, interrupts on the NIC's own node"),
    ),
    "carrierChangesMax": CheckRow(
        group="network", read=_per_link("carrier_down_count", int), right=at_most, kind=int | None,
        evidence=f"/{_NET}/*/carrier_down_count",
        about=about(Severity.HIGH, "a link that went away under load stalls every rank",
                    "https://docs.kernel.org/admin-guide/abi-testing.html"),
    ),
    "fullRings": CheckRow(
        group="network", read=_rings, right=lambda seen, wanted: all(ring["entries"] == ring["of"] for ring in seen.values()),
        evidence="ethtool -g",
        about=about(Severity.LOW, "short receive rings overflow in bursts",
                    "https://docs.kernel.org/networking/ethtool-netlink.html", "ethtool -G; the link goes down for a moment"),
    ),
    "rdmaLinkState": CheckRow(
        group="rdma", read=_port_row("state", _state), right=each, expect="ACTIVE", applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/state",
        about=about(Severity.CRITICAL, "a port that is down takes its rail with it",
                    "https://docs.kernel.org/infiniband/sysfs.html"),
    ),
    "rdmaPhysicalState": CheckRow(
        group="rdma", read=_port_row("phys_state", _state), right=each, expect="LinkUp", applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/phys_state",
        about=about(Severity.CRITICAL, "no link at all on this port", "https://docs.kernel.org/infiniband/sysfs.html"),
    ),
    "rdmaRateMin": CheckRow(
        group="rdma", read=_port_row("rate", _rate), right=at_least, kind=int | None, applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/rate",
        about=about(Severity.CRITICAL, "a port below its rate slows every collective (Gbit/s)",
                    "https://docs.kernel.org/infiniband/sysfs.html"),
    ),
    "rdmaSymbolErrors": CheckRow(
        group="rdma", read=_port_row("counters/symbol_error", int), right=each, expect=0, applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/counters/symbol_error",
        about=about(Severity.HIGH, "signal errors are corrected by resending",
                    "https://docs.kernel.org/infiniband/sysfs.html", "check cable and optics"),
    ),
    "rdmaLinkDownedMax": CheckRow(
        group="rdma", read=_port_row("counters/link_downed", int), right=at_most, kind=int | None, applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/counters/link_downed",
        about=about(Severity.HIGH, "the link was lost since the counters started",
                    "https://docs.kernel.org/infiniband/sysfs.html"),
    ),
    "rdmaTrafficClass": CheckRow(
        group="rdma", right=each, kind=int | None, applies=(has_rdma,),
        read=gathered(
            lambda facts: {name: f"{_IB}/{name}/tc/1/traffic_class" for name in facts.host.files.names(_IB)},
            lambda content: int(content.rpartition("=")[2]), "no RDMA device reports its traffic class", _IB,
        ),
        evidence=f"/{_IB}/*/tc/1/traffic_class",
        about=about(Severity.HIGH, "RoCE outside the lossless class collapses under congestion",
                    "https://docs.nvidia.com/networking/", "use the fabric's own value; tuneagent never guesses it"),
    ),
    "rdmaGidRoceV2": CheckRow(
        group="rdma", read=_gids, right=each, expect="RoCE v2", applies=(has_rdma,),
        evidence=f"/{_IB}/*/ports/*/gid_attrs/types/3",
        about=about(Severity.HIGH, "NCCL with GID index 3 needs RoCE v2 there", _NCCL),
    ),
    "gpuDirectRdma": CheckRow(
        group="rdma", read=_gpudirect, right=lambda seen, wanted: bool(seen), applies=(has_nvidia_gpu, has_rdma),
        evidence="/sys/module/nvidia_peermem, /proc/driver/nvidia/version",
        about=about(Severity.CRITICAL, "without a path from NIC to GPU memory every message is copied through the host",
                    "https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-rdma.html",
                    "use the open kernel module with kernel 5.12 or later, or modprobe nvidia-peermem"),
    ),
    "gdrcopy": CheckRow(
        group="rdma", read=exists("sys/module/gdrdrv", "sys/module"), right=equal, applies=(has_nvidia_gpu,),
        evidence="/sys/module/gdrdrv",
        about=about(Severity.MEDIUM, "low-latency libraries fall back to slower copies without gdrdrv",
                    "https://github.com/NVIDIA/gdrcopy", "modprobe gdrdrv"),
    ),
}  # fmt: skip
