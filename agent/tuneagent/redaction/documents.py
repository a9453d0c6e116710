"""Filters of tables and documents: mounts, processors, containerd, the kubelet, what programs print. Text in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tuneagent.errors import TuneError
from tuneagent.pattern import pattern
from tuneagent.redaction.grammars import DEVICE, LONG_RANDOM, WORD, by_line
from tuneagent.redaction.pseudonyms import blank, is_plain


def fstab(text: str) -> str:
    """Where swap comes from at the next boot; other file systems are nobody's business."""

    def keep(line: str) -> str | None:
        fields = line.split()
        if len(fields) < 3 or fields[2] != "swap":
            return None
        place = (
            fields[0] if DEVICE.match(fields[0]) or re.match(r"/[a-z0-9/_.-]{1,32}\Z", fields[0]) else blank(fields[0])
        )
        more = [
            one
            for one in fields[3:6]
            if re.match(r"(sw|defaults|nofail|(,?(sw|defaults|nofail|discard|pri=\d{1,5}))+|\d)\Z", one)
        ]
        where = "none" if fields[1] in ("none", "swap") else blank(fields[1])
        return " ".join([place, where, "swap", *more])

    return by_line(text, keep)


_OPTIONS = pattern(
    r"(ro|rw|relatime|noatime|strictatime|lazytime|nodiratime|nosuid|nodev|noexec|sync|async|bind|hard|soft|inode64|discard"
    r"|nsdelegate|memory_recursiveprot|noacl|nobarrier|data=[a-z]+|errors=[a-z-]+"
    r"|(size|nr_inodes|mode|pagesize|nconnect|vers|rsize|wsize|timeo|retrans|proto|gid|uid)=[A-Za-z0-9.%]{1,24}"
    r"|(upperdir|workdir)=/(run|tmp|var|etc|sysroot|usr)[A-Za-z0-9_./-]{0,128})\Z"
)


def mounts(text: str) -> str:
    """Mount tables: where, of what kind, with which known options. What is mounted, and from whom, is taken out."""

    def keep(line: str) -> str | None:
        fields = line.split()
        if len(fields) < 4:
            return blank(line)
        device = (
            fields[0] if DEVICE.match(fields[0]) or re.match(r"[a-z0-9_-]{1,24}\Z", fields[0]) else blank(fields[0])
        )
        options = ",".join(one if _OPTIONS.match(one) else blank(one) for one in fields[3].split(","))
        return " ".join([device, fields[1], fields[2], options, *fields[4:6]])

    return by_line(text, keep)


def named_values(text: str, names: Callable[[str], bool], separator: str = "=") -> str:
    """`NAME=value` lines of known names; values of one plain word."""

    def keep(line: str) -> str | None:
        match = re.match(rf"(\s*)([A-Za-z][A-Za-z0-9_ .()-]*?)(\s*{re.escape(separator)}\s*)(.*?)\s*\Z", line)
        if match is None or not names(match.group(2)):
            return None
        value = match.group(4)
        safe = is_plain(value.strip('"')) or re.match(r'"?[A-Za-z0-9_.,+ -]{0,64}"?\Z', value)
        return (
            line
            if safe and not LONG_RANDOM.match(value)
            else f"{match.group(1)}{match.group(2)}{match.group(3)}{blank(value)}"
        )

    return by_line(text, keep)


def cpuinfo(text: str) -> str:
    """/proc/cpuinfo without what tells one machine from another of its kind."""
    kept = pattern(
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


_TOML_PART = pattern(
    r"(plugins|io\.containerd\.[a-z0-9.-]+|containerd|cri|images|runtimes?|runc|nvidia|options|cdi|config)\Z"
)
_TOML_KEYS = (
    "version",
    "SystemdCgroup",
    "enable_cdi",
    "default_runtime_name",
    "runtime_type",
    "privileged_without_host_devices",
)


def containerd(text: str) -> str:
    """containerd's TOML: sections of its own plugins, and the keys that a row reads."""
    inside = ""

    def keep(line: str) -> str | None:
        nonlocal inside
        if inside:
            inside = "" if inside in line else inside
            return None
        quotes = next((mark for mark in ('"""', "'''") if line.count(mark) == 1), "")
        inside = quotes
        section = re.match(r"\s*\[+([^\]]*)\]+\s*(#.*)?\Z", line)
        if section is not None:
            parts = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^.\s]+)", section.group(1))
            known = all(_TOML_PART.match("".join(part)) for part in parts)
            return line.partition("#")[0].rstrip() if known else f"[{blank(section.group(1))}]"
        match = re.match(r"(\s*)([A-Za-z_]+)(\s*=\s*)(.*?)\s*\Z", line)
        if match is None or quotes:
            return None
        if match.group(2) == "imports":
            return f"{match.group(1)}imports{match.group(3)}{re.sub(r'(?<=.)[^,]*(?=.)', '', match.group(4)) or '[]'}"
        if match.group(2) not in _TOML_KEYS:
            return None
        value = match.group(4).partition("#")[0].strip()
        return line if is_plain(value) or re.match(r"[\"'][a-z0-9.-]{0,32}[\"']\Z", value) else None

    return by_line(text, keep)


_KUBELET = (
    "apiVersion", "kind", "cpuManagerPolicy", "cpuManagerPolicyOptions", "topologyManagerPolicy", "topologyManagerScope",
    "topologyManagerPolicyOptions", "memoryManagerPolicy", "reservedSystemCPUs", "reservedMemory", "evictionHard",
    "kubeReserved", "systemReserved", "cgroupDriver", "featureGates", "memorySwap", "failSwapOn", "maxPods", "podPidsLimit",
)  # fmt: skip


def kubelet(text: str) -> str:
    """The kubelet's configuration: managers, reservations and limits."""
    from tuneagent.yaml_document import load_yaml

    try:
        document = load_yaml(text, "")
    except TuneError:
        return f"{{ {blank(text)}\n"
    if not isinstance(document, dict):
        return json.dumps(blank(text)) + "\n"
    return json.dumps({key: _plain_tree(value) for key, value in document.items() if key in _KUBELET}, indent=1) + "\n"


def _plain_tree(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain_tree(one) for key, one in value.items() if WORD.match(str(key)) or len(str(key)) < 48}
    if isinstance(value, list):
        return [_plain_tree(one) for one in value]
    if isinstance(value, str) and not (is_plain(value) or re.match(r"[A-Za-z0-9_./,-]{0,48}\Z", value)):
        return blank(value)
    return value


def manager_state(text: str) -> str:
    """State of a kubelet's manager: its policy, not whose pods hold what."""
    policy = re.search(r'"policyName":"([A-Za-z]{1,16})"', text)
    return json.dumps({"policyName": policy.group(1)} if policy else {}, separators=(",", ":"))


_LOG = pattern(
    r"NVRM: Xid \([^)]{0,40}\): \d+|nvidia-nvswitch\d+: SXid \([^)]{0,40}\): \d+, Fatal"
    r"|mce: \[Hardware Error\]: Machine check events logged|Hardware Error"
)


def kernel_log(text: str) -> str:
    """Of the kernel's log the errors that rows count, each without the rest of its line."""
    return "".join(f"{match.group(0)}\n" for line in text.splitlines() if (match := _LOG.search(line)))


def table_of_numbers(text: str) -> str:
    """What a program prints as names and numbers, as ethtool does."""
    return by_line(
        text, lambda line: line if re.match(r"[A-Za-z0-9 ()/_-]{1,48}:?\s*([0-9]{1,12}|n/a)?\s*\Z", line) else None
    )
