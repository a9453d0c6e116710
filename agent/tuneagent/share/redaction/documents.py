"""Filters of tables and documents: mounts, processors, the kubelet, what programs print. Text in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from tuneagent.errors import TuneError
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.share.redaction.grammars import REGISTRY, by_line, comment
from tuneagent.share.redaction.pseudonyms import blank
from tuneagent.share.redaction.vocabulary import (
    DEVICE,
    KUBELET_KEYS,
    KUBELET_WORDS,
    SOURCES,
    is_plain,
    is_quantity,
    known_part,
)


def _path(path: str) -> str:
    """A path without the parts that are somebody's own."""
    known, rest = known_part(path)
    return path if not rest else f"{known}/{blank(rest)}" if known else blank(path)


def fstab(text: str) -> str:
    """Where swap comes from at the next boot; other file systems are left out."""

    def keep(line: str) -> str | None:
        fields = line.split()
        if len(fields) < 3 or fields[2] != "swap" or fields[0].startswith("#"):
            return None
        place = fields[0] if DEVICE.match(fields[0]) else _path(fields[0])
        more = [
            one
            for one in fields[3:6]
            if re.match(r"(sw|defaults|nofail|(,?(sw|defaults|nofail|discard|pri=\d{1,5}))+|\d)\Z", one)
        ]
        where = "none" if fields[1] in ("none", "swap") else blank(fields[1])
        return " ".join([place, where, "swap", *more])

    return by_line(text, keep)


def swaps(text: str) -> str:
    """/proc/swaps: where swap is, and how much."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\S+)((?:\s+[a-zA-Z0-9-]{1,24}){2,4}\s*)\Z", line)
        if match is None:
            return None
        place = match.group(1)
        return (place if place == "Filename" or DEVICE.match(place) else _path(place)) + match.group(2)

    return by_line(text, keep, taken=blank)


_OPTIONS = lazy_regex(
    r"(ro|rw|relatime|noatime|strictatime|lazytime|nodiratime|nosuid|nodev|noexec|sync|async|bind|hard|soft|inode64|inode32|discard"
    r"|nsdelegate|memory_recursiveprot|noacl|acl|nobarrier|attr2|noquota|data=(ordered|journal|writeback)|errors=(remount-ro|continue|panic)"
    r"|(proto|mountproto)=(tcp|udp|rdma)6?|vers=[0-9.]{1,4}|(cpu|cpuset|cpuacct|memory|blkio|io|hugetlb|pids|rdma|devices|freezer)"
    r"|(size|nr_inodes|mode|pagesize|nconnect|rsize|wsize|timeo|retrans|gid|uid|logbufs|logbsize|sunit|swidth)=[0-9.]{1,20}[kKmMgGtT%]?)\Z"
)
_KIND_OF_FS = lazy_regex(
    r"[a-z][a-z0-9_]{0,15}(\.(ceph|glusterfs|lustre|gvfsd-fuse|lxcfs|portal|s3fs|gcsfuse|snapfuse))?\Z"
)


def _option(option: str) -> str:
    name, equals, value = option.partition("=")
    if equals and name in ("upperdir", "workdir"):
        return f"{name}={_path(value)}"
    return option if _OPTIONS.match(option) else blank(option)


def mounts(text: str) -> str:
    """Mount tables: where, of what kind, with which known options. What is mounted, and from whom, is taken out."""

    def keep(line: str) -> str | None:
        fields = line.split()
        if len(fields) < 4:
            return blank(line)
        device = fields[0] if DEVICE.match(fields[0]) or fields[0] in SOURCES else blank(fields[0])
        kind = fields[2] if _KIND_OF_FS.match(fields[2]) else blank(fields[2])
        options = ",".join(_option(one) for one in fields[3].split(","))
        return " ".join([device, _path(fields[1]), kind, options, *fields[4:6]])

    return by_line(text, keep)


def driver_table(text: str) -> str:
    """/proc/driver/nvidia/params: `Name: number`, and the switches of the resource manager."""

    def keep(line: str) -> str | None:
        match = re.match(r"([A-Za-z][A-Za-z0-9_ ]{0,60})(:\s*)(.*?)\s*\Z", line)
        if match is None:
            return None
        known = is_plain(match.group(3)) or REGISTRY.match(match.group(3))
        return line if known else f"{match.group(1)}{match.group(2)}{blank(match.group(3))}"

    return by_line(text, keep)


def variables(text: str, names: Collection[str]) -> str:
    """`NAME=value` lines of known names with numbers and switches. Other names and lines are blanked."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*)([A-Z][A-Z0-9_]*)(\s*=\s*)(.*?)\s*\Z", line)
        if match is None:
            return comment(line) if line.lstrip().startswith("#") else blank(line)
        if match.group(2) not in names:
            return f"REDACTED={blank(line)}"
        value = match.group(4)
        known = all(is_plain(word) or re.match(r"[\^=]?[A-Z]{1,12}[0-9]{0,3}\Z", word) for word in value.split(","))
        return line if known and len(value) < 65 else f"{match.group(1)}{match.group(2)}{match.group(3)}{blank(value)}"

    return by_line(text, keep)


_NAME_OF_SYSTEM = lazy_regex(
    r"\"?(Debian|Ubuntu|Red Hat|Rocky|AlmaLinux|CentOS|Fedora|SUSE|openSUSE|SLES|Amazon|Oracle|Flatcar|Talos|Bottlerocket|Microsoft Azure"
    r"|Container-Optimized|Alpine|Arch|NVIDIA)[A-Za-z0-9 ./()-]{0,48}\"?\Z"
)


def os_release(text: str) -> str:
    """Which system it is, as its maker calls it."""

    def keep(line: str) -> str | None:
        name, _, value = line.partition("=")
        if name in ("ID", "ID_LIKE", "VERSION_ID", "VERSION_CODENAME", "PLATFORM_ID", "VARIANT_ID"):
            return line if re.match(r'"?[a-z0-9.:_ -]{1,32}"?\Z', value) else None
        return line if name in ("NAME", "PRETTY_NAME") and _NAME_OF_SYSTEM.match(value) else None

    return by_line(text, keep)


def cpuinfo(text: str) -> str:
    """/proc/cpuinfo without what tells one machine from another of its kind."""
    kept = lazy_regex(
        r"(processor|vendor_id|cpu family|model|model name|stepping|microcode|cpu MHz|cache size|physical id|siblings|core id"
        r"|cpu cores|apicid|initial apicid|fpu|fpu_exception|cpuid level|wp|flags|Features|bugs|bogomips|BogoMIPS|TLB size"
        r"|clflush size|cache_alignment|address sizes|power management|vmx flags|CPU (implementer|architecture|variant|part"
        r"|revision)|Architecture)\Z"
    )
    lines = [
        line
        for line in text.splitlines(keepends=True)
        if not line.strip() or kept.match(line.partition(":")[0].strip())
    ]
    return "".join(lines)


_KUBELET = (
    "apiVersion", "kind", "cpuManagerPolicy", "cpuManagerPolicyOptions", "topologyManagerPolicy", "topologyManagerScope",
    "topologyManagerPolicyOptions", "memoryManagerPolicy", "reservedSystemCPUs", "reservedMemory", "evictionHard",
    "kubeReserved", "systemReserved", "cgroupDriver", "featureGates", "memorySwap", "failSwapOn", "maxPods", "podPidsLimit",
    "containerRuntimeEndpoint", "mergeDefaultEvictionSettings",
)  # fmt: skip
_KUBELET_WORDS = lazy_regex(KUBELET_WORDS)
_KUBELET_KEYS = lazy_regex(KUBELET_KEYS)


def kubelet(text: str) -> str:
    """The kubelet's configuration: managers, reservations and limits."""
    from tuneagent.formats.yaml_document import load_yaml

    try:
        document = load_yaml(text, "")
    except TuneError:
        return f"{{ {blank(text)}\n"
    if not isinstance(document, dict):
        return json.dumps(blank(text)) + "\n"
    return (
        json.dumps({key: _kubelet_value(value) for key, value in document.items() if key in _KUBELET}, indent=1) + "\n"
    )


def _kubelet_value(value: object) -> object:
    if isinstance(value, dict):
        return {key: _kubelet_value(one) for key, one in value.items() if _KUBELET_KEYS.fullmatch(str(key))}
    if isinstance(value, list):
        return [_kubelet_value(one) for one in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    known = is_plain(text) or is_quantity(text) or _KUBELET_WORDS.fullmatch(text)
    return text if known and isinstance(value, str) else blank(text)


def manager_state(text: str) -> str:
    """State of a kubelet's manager: its policy, not whose pods hold what."""
    policy = re.search(r'"policyName":"([A-Za-z]{1,16})"', text)
    return json.dumps({"policyName": policy.group(1)} if policy else {}, separators=(",", ":"))


_LOG = lazy_regex(
    r"NVRM: Xid \([^)]{0,40}\): \d+|nvidia-nvswitch\d+: SXid \([^)]{0,40}\): \d+, Fatal"
    r"|mce: \[Hardware Error\]: Machine check events logged|Hardware Error"
)


def kernel_log(text: str) -> str:
    """The errors in the kernel's log that rows count, each without the rest of its line."""
    return "".join(f"{match.group(0)}\n" for line in text.splitlines() if (match := _LOG.search(line)))


def table_of_numbers(text: str) -> str:
    """What a program prints as names and numbers, as ethtool does."""
    return by_line(
        text, lambda line: line if re.match(r"[A-Za-z0-9 ()/_-]{1,48}:?\s*([0-9]{1,12}|n/a)?\s*\Z", line) else None
    )
