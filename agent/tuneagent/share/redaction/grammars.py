"""Filters of other people's files: text in, text out. A line stays as it is where all of it is known; else it is blanked.

Whatever a row reads in a line must survive, so that a capture gives the same audit as its machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.systemd_unit import variables_of, whole_lines
from tuneagent.share.redaction.mentions import OF_IRQBALANCE, Words, assignment, mentions
from tuneagent.share.redaction.pseudonyms import blank
from tuneagent.share.redaction.vocabulary import (
    DEVICE,
    MODULES,
    NETWORK,
    SYSFS,
    is_argument_value,
    is_kernel_image,
    is_plain,
)

# Names on the kernel line whose values are the kernel's own words. Others are blanked whole.
_ARGUMENTS = lazy_regex(
    r"ro|rw|quiet|splash|rhgb|--|BOOT_IMAGE|console|earlyprintk|crashkernel|panic|maxcpus|nr_cpus|mem|memmap|movablecore"
    r"|kernelcore|mitigations|spectre_v2|spectre_v2_user|spec_store_bypass_disable|l1tf|mds|tsx|tsx_async_abort|mmio_stale_data"
    r"|retbleed|srbds|pti|nopti|nokaslr|kpti|selinux|apparmor|security|lsm|audit|numa|memhp_default_state|efi|acpi|nomodeset"
    r"|net\.ifnames|biosdevname|ipv6\.disable|module_blacklist|(modprobe|rd\.driver)\.blacklist|nouveau\.modeset|page_owner"
    r"|slub_debug|debug_pagealloc|page_poison|init_on_free|random\.trust_cpu|rcutree\.[a-z_]+|rcupdate\.[a-z_]+|srcutree\.[a-z_]+"
    r"|(nvidia([-_](drm|modeset|uvm|peermem))?|nvme(_core)?|mlx[45]_(core|ib)|ib_core|intel_idle|processor|pcie_aspm|pcie_port_pm"
    r"|pcie_ports|acpi_[a-z_]+|amd_iommu_dump|iommu|intel_iommu|kvm(_intel|_amd)?|vfio[-_a-z]*|zswap|hugetlb_cma|cma|ksm"
    r"|lru_gen|thp_anon|usbcore|libata|scsi_mod|dm_mod|sched_[a-z_]+|watchdog_thresh|softlockup_panic|hung_task_panic)(\.[A-Za-z_]+)?"
)


def kernel_line(text: str, allowed: Callable[[str], bool]) -> str:
    """A kernel command line: arguments that a profile may name or that the kernel's own grammar bounds."""
    return re.sub(r'(?:[^\s"]|"[^"]*"?)+', lambda match: _argument(match.group(0), allowed), text)


def _argument(word: str, allowed: Callable[[str], bool]) -> str:
    name, equals, value = word.strip('"').partition("=")
    bare = value.strip('"')
    if name in ("root", "resume"):
        return word if DEVICE.match(bare) else f"{name}={blank(bare)}"
    if word in ("$kernelopts", "$tuned_params"):
        return word
    if not (allowed(name) or _ARGUMENTS.fullmatch(name)):
        return blank(word)
    return word if not equals or is_argument_value(name, bare) else f"{name}={blank(bare)}"


def comment(line: str) -> str:
    """A line taken out, as a comment that says how long it was."""
    return f"# {blank(line.strip())}"


def by_line(text: str, keep: Callable[[str], str | None], taken: Callable[[str], str] = comment) -> str:
    """Each line as `keep` gives it, unchanged or with values blanked; None puts what `taken` gives. Empty ones stay."""
    lines = []
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        kept = body if not body.strip() else keep(body)
        lines.append((taken(body) if kept is None else kept) + line[len(body) :])
    return "".join(lines)


def plain_words(text: str, more: Collection[str] = ()) -> str:
    """Words that are numbers or switches, or one of `more`; others blanked, white space as it is."""
    return re.sub(
        r"\S+", lambda m: m.group(0) if is_plain(m.group(0)) or m.group(0) in more else blank(m.group(0)), text
    )


def sysctl(text: str, allowed: Callable[[str], bool]) -> str:
    """sysctl.d: keys that a profile may set, with plain values."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*-?\s*)([A-Za-z0-9_./*?{},\[\]-]{1,128})(\s*=\s*|\s*\Z)(.*)\Z", line)
        if match is None or not allowed(match.group(2)):
            return None
        value = plain_words(match.group(4), NETWORK)
        if match.group(2).endswith("fastopen_key"):
            value = blank(match.group(4))
        return f"{match.group(1)}{match.group(2)}{match.group(3)}{value}"

    return by_line(text, keep)


# Files that a row writes at boot; parameters of other modules may be passwords.
_WRITTEN = lazy_regex(
    r"/(proc/sys/(vm|kernel|fs|net)|sys/(kernel/mm|kernel/debug/sched|block|devices/system|devices/virtual/workqueue|devices/pci[0-9a-f:]+"
    r"|class/(net|block|bdi|nvme)|bus/(pci|workqueue)|fs/cgroup|power|firmware/acpi"
    r"|module/(nvidia[_a-z]*|nvme(_core)?|mlx[45]_(core|ib)|intel_idle|processor|workqueue|pcie_aspm|kvm(_intel|_amd)?|rcutree)))"
    r"/[A-Za-z0-9_./*?\[\]:-]{1,200}\Z"
)


def tmpfiles(text: str) -> str:
    """tmpfiles.d: lines that write a file of the kernel."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*w\S{0,4}\s+)(\S+)((?:\s+\S+){4}\s+)(.*)\Z", line)
        if match is None or not _WRITTEN.match(match.group(2).strip('"')):
            return None
        mode_and_owner = re.sub(
            r"\S+",
            lambda m: m.group(0) if re.match(r"-|0|root|0?[0-7]{3}", m.group(0)) else blank(m.group(0)),
            match.group(3),
        )
        return f"{match.group(1)}{match.group(2)}{mode_and_owner}{plain_words(match.group(4), SYSFS | NETWORK)}"

    return by_line(text, keep)


def modprobe(text: str) -> str:
    """modprobe.d: options of known modules with plain values; which modules are blocked."""

    def keep(line: str) -> str | None:
        words = line.split()
        if words[0] in ("blacklist", "alias", "softdep"):
            known = all(MODULES.match(word) or word in ("pre:", "post:", "off") for word in words[1:])
            return line if known else None
        if words[0] != "options" or len(words) < 2:
            return None
        if not MODULES.match(words[1]):
            return f"options {blank(words[1])} " + " ".join(blank(word) for word in words[2:])
        kept = [_option(word) for word in words[2:]]
        return line if kept == words[2:] else " ".join([*words[:2], *kept])

    return by_line(text, keep)


# Switches of NVIDIA's resource manager: RMName=0x1;RMOther=0x2.
REGISTRY = lazy_regex(r'"?((RM?|Rm?)[A-Za-z0-9]{1,40}=(0x)?[0-9a-fA-F]{1,8};?)*"?\Z')


def _option(word: str) -> str:
    name, equals, value = word.partition("=")
    if not (equals and re.match(r"[A-Za-z0-9_]{1,48}\Z", name)):
        return blank(word)
    return (
        word
        if (name.startswith("NVreg_") and REGISTRY.match(value)) or is_plain(value.strip('"'))
        else f"{name}={blank(value)}"
    )


_UNIT_KEYS = lazy_regex(
    r"DefaultLimit[A-Z]+(Soft)?|Limit[A-Z]+(Soft)?|AllowedCPUs|AllowedMemoryNodes|CPUAffinity|NUMAPolicy|NUMAMask"
    r"|LoadState|ActiveState|SubState|UnitFileState|Result|NTPSynchronized|NTP|CPUWeight|MemoryMax|TasksMax"
)
_UNIT_VALUE = lazy_regex(
    r"((not-)?(loaded|found)|masked|error|(de|re)?activ(e|ating)|inactive|failed|running|dead|exited|listening|waiting|mounted|plugged"
    r"|(en|dis)abled(-runtime)?|static|indirect|generated|transient|alias|linked|success|exit-code|signal|timeout|core-dump|oom-kill"
    r"|bind|preferred|interleave|local|default|numa|yes|no|[0-9]{1,20}(\.[0-9]{1,6})?[KMGTPE%]?|[0-9,: -]{0,4096}|infinity)"
    r"(:([0-9]{1,20}(\.[0-9]{1,6})?[KMGTPE]?|infinity))?\Z"
)


def unit(text: str, words: Words | None = None) -> str:
    """Units, drop-ins and what `systemctl show` prints: limits, CPUs and states, and what commands mention."""

    def keep(line: str) -> str | None:
        if re.match(r"\s*\[(Unit|Service|Slice|Scope|Socket|Timer|Mount|Manager|Install|Time|Journal)\]\s*\Z", line):
            return line
        match = re.match(r"(\s*)([A-Za-z]+)(\s*=\s*)(.*?)\s*\Z", line)
        if match is None:
            return None
        key, value = match.group(2), match.group(4)
        if key == "Environment" and OF_IRQBALANCE.match(value):
            return line
        if key.startswith(("Exec", "Environment")):
            return _told(key, value, words) if words is not None else None
        if not _UNIT_KEYS.fullmatch(key):
            return None
        return line if _UNIT_VALUE.match(value) else f"{key}={blank(value)}"

    return by_line(whole_lines(text), keep)


def _told(key: str, value: str, words: Words) -> str | None:
    """A command or variables of a unit. An empty one takes back what came before."""
    if not value:
        return f"{key}="
    if key == "EnvironmentFile":
        # A file that the capture does not have is one whose variables are not known.
        return f"{key}=-/{words.placed(value.lstrip('-').strip().lstrip('/')) or 'redacted'}"
    if key == "Environment":
        given, is_plain = variables_of(value)
        told = [assignment(name, one, words) for name, one in given.items()]
        # What cannot be taken apart stays so.
        return (
            f"{key}=" + " ".join(f'"{one}"' for one in told) + ("" if is_plain else ' "')
            if told or not is_plain
            else None
        )
    said = mentions(value, words).strip()
    return f"{key}={said}" if said else None


def limits(text: str) -> str:
    """limits.conf: how much, and for everyone or for one whose name is left out."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*)(\S+)(\s+)(soft|hard|-)(\s+)([a-z]{1,16})(\s+)(\S+)\s*\Z", line)
        if match is None or not (is_plain(match.group(8)) or match.group(8) == "-1"):
            return None
        who = match.group(2) if match.group(2) in ("*", "root", "%") else blank(match.group(2))
        return "".join((match.group(1), who, *match.group(3, 4, 5, 6, 7, 8)))

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
            if re.match(
                r"\s*GRUB_(DEFAULT|TIMEOUT|ENABLE_BLSCFG|SAVEDEFAULT)=\"?(saved|true|false|[0-9]{1,4})\"?\Z", line
            )
            else None
        )

    return by_line(text, keep)


def boot_entries(text: str, allowed: Callable[[str], bool]) -> str:
    """grub.cfg, grubenv and boot loader entries: the lines that give the kernel its arguments."""

    def keep(line: str) -> str | None:
        match = re.match(r"(\s*)(linux(?:16|efi)?\s+)(\S{1,128})(\s+)(.*)\Z", line)
        if match is not None:
            image = match.group(3) if is_kernel_image(match.group(3)) else f"/vmlinuz-{blank(match.group(3))}"
            return "".join((*match.group(1, 2), image, match.group(4), kernel_line(match.group(5), allowed)))
        match = re.match(r"(\s*(?:options|kernelopts=))(\s*)(.*)\Z", line)
        if match is not None:
            return f"{match.group(1)}{match.group(2)}{kernel_line(match.group(3), allowed)}"
        return (
            line
            if re.match(
                r"((?:prev_)?saved_entry=|next_entry=|version\s+|linux\s+)[\w./()@+>-]{1,128}\Z"
                # What systemd-boot starts without an entry of its own name.
                r"|(default\s+(@\w+|auto-[\w-]+)|preferred|uki|efi|architecture\s+\w+)\Z",
                line,
            )
            else re.sub(r"(preferred|uki|efi)\s.*", r"\1 redacted", line)
            if re.match(r"(preferred|uki|efi)\s", line)
            else None
        )

    return by_line(text, keep)
