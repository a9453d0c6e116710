"""Filters of other people's files: text in, text out. A line stays as it is where all of it is known; else it is blanked.

What is in a line that a row reads must survive, so that a capture audits like its machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from tuneagent.pattern import pattern
from tuneagent.redaction.pseudonyms import blank, is_plain

# Names on the kernel line whose values are the kernel's own words. Others are blanked whole.
_ARGUMENTS = pattern(
    r"ro|rw|quiet|splash|rhgb|--|BOOT_IMAGE|console|earlyprintk|crashkernel|panic|maxcpus|nr_cpus|mem|memmap|movablecore"
    r"|kernelcore|mitigations|spectre_v2|spectre_v2_user|spec_store_bypass_disable|l1tf|mds|tsx|tsx_async_abort|mmio_stale_data"
    r"|retbleed|srbds|pti|nopti|nokaslr|kpti|selinux|apparmor|security|lsm|audit|numa|memhp_default_state|efi|acpi|nomodeset"
    r"|net\.ifnames|biosdevname|ipv6\.disable|module_blacklist|(modprobe|rd\.driver)\.blacklist|nouveau\.modeset|page_owner"
    r"|slub_debug|debug_pagealloc|page_poison|init_on_free|random\.trust_cpu|rcutree\.[a-z_]+|rcupdate\.[a-z_]+|srcutree\.[a-z_]+"
    r"|(nvidia([-_](drm|modeset|uvm|peermem))?|nvme(_core)?|mlx[45]_(core|ib)|ib_core|intel_idle|processor|pcie_aspm|pcie_port_pm"
    r"|pcie_ports|acpi_[a-z_]+|amd_iommu_dump|iommu|intel_iommu|kvm(_intel|_amd)?|vfio[-_a-z]*|zswap|hugetlb_cma|cma|ksm"
    r"|lru_gen|thp_anon|usbcore|libata|scsi_mod|dm_mod|sched_[a-z_]+|watchdog_thresh|softlockup_panic|hung_task_panic)(\.[A-Za-z_]+)?"
)
_ARGUMENT_VALUE = pattern(r"[A-Za-z0-9_.,:/@+^~*()=-]{0,512}\Z")
LONG_RANDOM = pattern(r"[A-Za-z0-9+/_-]{25,}\Z")
DEVICE = pattern(r"(/dev/[A-Za-z0-9/_.-]{1,64}|(PART)?UUID=[0-9a-fA-F-]{4,36}|LABEL=[A-Za-z0-9_-]{1,16})\Z")
_NAME_OF_FILE = pattern(r"[A-Za-z0-9_./()@+-]{1,128}\Z")
WORD = pattern(r"[A-Za-z0-9_.+-]{1,24}\Z")


def kernel_line(text: str, allowed: Callable[[str], bool]) -> str:
    """A kernel command line: arguments that a profile may name or that the kernel's own grammar bounds."""
    return re.sub(r'(?:[^\s"]|"[^"]*"?)+', lambda match: _argument(match.group(0), allowed), text)


def _argument(word: str, allowed: Callable[[str], bool]) -> str:
    name, equals, value = word.strip('"').partition("=")
    bare = value.strip('"')
    if name in ("root", "resume"):
        return word if DEVICE.match(bare) else f"{name}={blank(bare)}"
    if not (allowed(name) or _ARGUMENTS.fullmatch(name)):
        return blank(word)
    if "." in name and not allowed(name):
        # An option of a module is what its author made it: a number or a switch, or taken out.
        kept = all(is_plain(part) for part in bare.split(","))
    else:
        kept = bool(_ARGUMENT_VALUE.match(bare)) and not LONG_RANDOM.match(bare)
    return word if not equals or kept else f"{name}={blank(bare)}"


def comment(line: str) -> str:
    """A line taken out, as a comment that says how long it was."""
    return f"# {blank(line.strip())}"


def by_line(text: str, keep: Callable[[str], str | None]) -> str:
    """Each line as `keep` gives it: unchanged or with values blanked; None takes the line out. Empty ones stay."""
    lines = []
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        kept = body if not body.strip() else keep(body)
        lines.append((comment(body) if kept is None else kept) + line[len(body) :])
    return "".join(lines)


def plain_words(text: str, more: Collection[str] = ()) -> str:
    """Words that are numbers or switches, or one of `more`; others blanked, white space as it is."""
    return re.sub(
        r"\S+", lambda m: m.group(0) if is_plain(m.group(0)) or m.group(0) in more else blank(m.group(0)), text
    )


_QDISCS = (
    "fq",
    "fq_codel",
    "pfifo_fast",
    "pfifo",
    "noqueue",
    "cake",
    "mq",
    "cubic",
    "bbr",
    "reno",
    "dctcp",
    "htcp",
    "vegas",
)


def sysctl(text: str, allowed: Callable[[str], bool]) -> str:
    """sysctl.d: keys that a profile may set, with plain values."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*-?\s*)([A-Za-z0-9_./*?-]{1,128})(\s*=\s*)(.*)\Z", line)
        if match is None or not allowed(match.group(2)):
            return None
        return f"{match.group(1)}{match.group(2)}{match.group(3)}{plain_words(match.group(4), _QDISCS)}"

    return by_line(text, keep)


def tmpfiles(text: str) -> str:
    """tmpfiles.d: lines that write a file of the kernel."""

    def keep(line: str) -> str | None:
        fields = re.match(
            r"(\s*w\S{0,4}\s+\"?)(/(?:sys|proc/sys)/[A-Za-z0-9_./*?\[\]:-]{1,256})(\"?\s+.*?\s)(\S.*)\Z", line
        )
        if fields is None or len(line.split(None, 6)) < 7:
            return None
        head = line[: len(line) - len(line.split(None, 6)[6])]
        value = line.split(None, 6)[6]
        words = [one if is_plain(one) or WORD.match(one) else blank(one) for one in value.split()]
        return head + (value if " ".join(words) == " ".join(value.split()) else " ".join(words))

    return by_line(text, keep)


_MODULES = pattern(
    r"(nvidia[-_a-z]*|nouveau|nvme([-_]core)?|mlx[45][-_](core|ib)|ib[-_][a-z]+|rdma[-_][a-z]+|intel_idle|kvm([-_](intel|amd))?"
    r"|vfio[-_a-z]*|i915|amdgpu|ixgbe|ice|i40e|bnxt_en|ena|gdrdrv|overlay|nf_conntrack|bonding)\Z"
)


def modprobe(text: str) -> str:
    """modprobe.d: options of known modules with plain values; which modules are kept out."""

    def keep(line: str) -> str | None:
        words = line.split()
        if words[0] in ("blacklist", "alias", "softdep") and all(WORD.match(word.strip(":*")) for word in words):
            return line
        if words[0] != "options" or len(words) < 2:
            return None
        if not _MODULES.match(words[1]):
            return f"options {blank(words[1])} " + " ".join(blank(word) for word in words[2:])
        kept = [_option(word) for word in words[2:]]
        return line if kept == words[2:] else " ".join([*words[:2], *kept])

    return by_line(text, keep)


def _option(word: str) -> str:
    name, equals, value = word.partition("=")
    if not (equals and re.match(r"[A-Za-z0-9_]{1,48}\Z", name)):
        return blank(word)
    registry = name.startswith("NVreg_") and re.match(r'"?([A-Za-z0-9]{1,40}=(0x)?[0-9a-fA-F]{1,8};?)*"?\Z', value)
    return word if registry or is_plain(value.strip('"')) else f"{name}={blank(value)}"


_UNIT_KEYS = pattern(
    r"DefaultLimit[A-Z]+(Soft)?|Limit[A-Z]+(Soft)?|AllowedCPUs|AllowedMemoryNodes|CPUAffinity|NUMAPolicy|NUMAMask"
    r"|LoadState|ActiveState|SubState|UnitFileState|Result|NTPSynchronized|NTP|CPUWeight|MemoryMax|TasksMax"
)
_UNIT_VALUE = pattern(
    r"([a-z-]{1,24}|[0-9]{1,20}[KMGTPE]?|[0-9,: -]{0,4096}|infinity)(:([0-9]{1,20}[KMGTPE]?|infinity))?\Z"
)
_IRQBALANCE = pattern(r'"?IRQBALANCE_(BANNED_CPULIST|BANNED_CPUS|ARGS)=[0-9a-fA-F,: -]*"?\Z')


def unit(text: str) -> str:
    """Drop-ins of systemd and what `systemctl show` prints: limits, CPUs and states."""

    def keep(line: str) -> str | None:
        if re.match(r"\s*\[[A-Za-z]{1,16}\]\s*\Z", line):
            return line
        match = re.match(r"(\s*)([A-Za-z]+)(\s*=\s*)(.*?)\s*\Z", line)
        if match is None:
            return None
        key, value = match.group(2), match.group(4)
        if key == "Environment" and _IRQBALANCE.match(value):
            return line
        if not _UNIT_KEYS.fullmatch(key):
            return None
        return line if _UNIT_VALUE.match(value) else f"{key}={blank(value)}"

    return by_line(text, keep)


def limits(text: str) -> str:
    """limits.conf: how much, and for everyone or for one whose name is nobody's business."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*)(\S+)(\s+)(soft|hard|-)(\s+)([a-z]{1,16})(\s+)(\S+)\s*\Z", line)
        if match is None or not (is_plain(match.group(8)) or match.group(8) == "-1"):
            return None
        who = match.group(2) if match.group(2) in ("*", "root", "%") else blank(match.group(2))
        return "".join((match.group(1), who, *match.group(3, 4, 5, 6, 7, 8)))

    return by_line(text, keep)


def udev(text: str) -> str:
    """Rules of udev that set an attribute: which, on what kind of device, to what plain value."""

    def keep(line: str) -> str | None:
        if not re.search(r"ATTR\{[^}]*\}=\"", line):
            return None

        def value(match: re.Match[str]) -> str:
            safe = is_plain(match.group(2)) or re.match(r"[A-Za-z0-9_.:/*?|!\[\]-]{0,48}\Z", match.group(2))
            known = re.match(
                r"(ACTION|SUBSYSTEM|KERNELS?|DRIVERS?|ATTRS?\{[A-Za-z0-9_/]{1,64}\})[!=+:]{1,2}\Z", match.group(1)
            )
            secret = "address" in match.group(1) or "serial" in match.group(1)
            return match.group(0) if safe and known and not secret else f'{match.group(1)}"{blank(match.group(2))}"'

        return re.sub(r'([A-Z]+(?:\{[^}]*\})?[!=+:]{1,2})"([^"]*)"', value, line)

    return by_line(text, keep)


def grub_defaults(text: str, allowed: Callable[[str], bool]) -> str:
    """/etc/default/grub and its .d: the two kernel lines."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*GRUB_CMDLINE_LINUX(?:_DEFAULT|_RECOVERY)?=)([\"']?)(.*?)([\"']?\s*)\Z", line)
        if match is not None and "$" not in line and "`" not in line:
            inner = match.group(3).replace('\\"', '"')
            kept = kernel_line(inner, allowed)
            return line if kept == inner else f"{match.group(1)}{match.group(2)}{kept}{match.group(4)}"
        return (
            line
            if re.match(r"\s*GRUB_(DEFAULT|TIMEOUT|ENABLE_BLSCFG|SAVEDEFAULT)=\"?[a-z0-9]{1,8}\"?\Z", line)
            else None
        )

    return by_line(text, keep)


def boot_entries(text: str, allowed: Callable[[str], bool]) -> str:
    """grub.cfg, grubenv and boot loader entries: the lines that give the kernel its arguments."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*(?:linux(?:16|efi)?\s+[\w./()@+-]{1,128}|options|kernelopts=))(\s*)(.*)\Z", line)
        if match is not None:
            return f"{match.group(1)}{match.group(2)}{kernel_line(match.group(3), allowed)}"
        return line if re.match(r"(saved_entry=|version\s+|linux\s+)[\w./()@+-]{1,128}\Z", line) else None

    return by_line(text, keep)
