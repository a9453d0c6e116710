"""Which filter a file or a program's answer gets. What no rule knows is replaced whole."""

from __future__ import annotations

import re
from collections.abc import Callable

from tuneagent.checks.environment import NAMES as VARIABLES
from tuneagent.facts.kubelet import ARGUMENTS
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.sysctl_d import covers
from tuneagent.share.redaction import documents, grammars
from tuneagent.share.redaction.places import KUBELET
from tuneagent.share.redaction.pseudonyms import blank
from tuneagent.share.redaction.runtime_tables import runtime_tables
from tuneagent.share.redaction.udev_rules import udev_rules
from tuneagent.share.redaction.vocabulary import NETWORK
from tuneagent.tunables.kernel_arguments import ALLOWED as KERNEL_ARGUMENTS
from tuneagent.tunables.sysctl import is_allowed
from tuneagent.tunables.tables.sysctl import ROWS
from tuneagent.tunables.tables.sysctl_keys import ELSEWHERE

Filter = Callable[[str], str]
WORD = lazy_regex(r"[\[\]<>()A-Za-z0-9_+.,:;/%=*#@|&'\"!-]{1,256}\Z")


def is_argument(name: str) -> bool:
    """Whether a row reads this argument of the kernel."""
    return bool(KERNEL_ARGUMENTS.fullmatch(name.replace("-", "_")) or KERNEL_ARGUMENTS.fullmatch(name))


def is_sysctl(key: str) -> bool:
    """Whether a key or a glob, with dots or slashes, is one that a profile may name."""
    first_slash, first_dot = key.find("/"), key.find(".")
    dotted = key.replace("/", ".") if first_slash >= 0 and (first_dot < 0 or first_slash < first_dot) else key
    return dotted in ELSEWHERE or is_allowed(dotted) or any(covers(dotted, one) for one in (*ROWS, *ELSEWHERE))


def _kernel_line(text: str) -> str:
    return grammars.kernel_line(text, is_argument)


def nothing(text: str) -> str:
    """A comment that says how much was taken out."""
    return grammars.comment(text) + "\n" if text.strip() else text


def _kernel_text(text: str) -> str:
    """What the kernel prints about itself, in its own words."""
    return re.sub(r"\S+", lambda m: m.group(0) if WORD.match(m.group(0)) else blank(m.group(0)), text)


def plain(text: str) -> str:
    """Numbers, switches and words of the kernel's network settings."""
    return grammars.plain_words(text, NETWORK)


def _notes(text: str) -> str:
    """Our record for grubby: names and words of kernel arguments behind `# tuneagent:` and `# before:`."""

    def keep(line: str) -> str | None:
        match = re.match(r"(# (?:tuneagent|before): )(\S+)( ?)(.*)\Z", line)
        if match is None:
            return line if line.startswith("# Written by tuneagent") else None
        if not is_argument(match.group(2)):
            return None
        return f"{match.group(1)}{match.group(2)}{match.group(3)}{_kernel_line(match.group(4))}"

    return grammars.by_line(text, keep)


def _on_or_off(text: str) -> str:
    """Whether a firewall is on, and whether TuneD applies sysctl.d once more."""
    return grammars.by_line(text, lambda line: line if _ON_OR_OFF.match(line) else None)


def _loader(text: str) -> str:
    """A boot loader's name and version, as the firmware keeps them."""
    return text if re.fullmatch(r"[^\0]\0{3}(?:[A-Za-z0-9 .()~+-]\0)+\0\0", text) else "\6\0\0\0?"


def _variables(text: str) -> str:
    return documents.variables(text, VARIABLES)


RULES: tuple[tuple[re.Pattern[str], Filter], ...] = (
    (lazy_regex(r"proc/cmdline\Z"), _kernel_line),
    (lazy_regex(r"proc/cpuinfo\Z"), documents.cpuinfo),
    (lazy_regex(r"proc/(\d+|self)/(mounts|mountinfo)\Z|proc/mounts\Z"), documents.mounts),
    (lazy_regex(r"proc/swaps\Z"), documents.swaps),
    (lazy_regex(r"proc/sys/kernel/(osrelease|ostype|arch|version|hostname|random/boot_id)\Z"), lambda text: text),
    (lazy_regex(r"proc/sys/"), plain),
    (lazy_regex(r"proc/driver/nvidia/(params|registry)\Z"), documents.driver_table),
    (lazy_regex(r"proc/driver/nvidia/"), _kernel_text),
    (
        lazy_regex(r"proc/(\d+/(limits|status|numa_maps|cgroup)|self/limits|[a-z_]+\Z|irq/|net/|pressure/)"),
        _kernel_text,
    ),
    (lazy_regex(r"sys/firmware/efi/efivars/LoaderInfo-"), _loader),
    # What names an entry is not told: a text that cannot be read makes the entry unknown.
    (lazy_regex(r"sys/firmware/efi/efivars/"), lambda text: "\6\0\0\0?" if text else text),
    (lazy_regex(r"sys/"), _kernel_text),
    (
        lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/sysctl\.d/|etc/sysctl\.conf\Z"),
        lambda t: grammars.sysctl(t, is_sysctl),
    ),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib)/tmpfiles\.d/"), grammars.tmpfiles),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/modprobe\.d/"), grammars.modprobe),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/udev/rules\.d/"), udev_rules),
    (lazy_regex(r"etc/security/limits(\.d/|\.conf\Z)"), grammars.limits),
    (lazy_regex(r"etc/default/grub(\.d/|\Z)"), lambda text: grammars.grub_defaults(text, is_argument)),
    (lazy_regex(r"boot/|efi/|etc/kernel/"), lambda text: grammars.boot_entries(text, is_argument)),
    (lazy_regex(r"etc/tuneagent/kernel-arguments\Z"), _notes),
    (lazy_regex(r"etc/fstab\Z"), documents.fstab),
    (lazy_regex(r"etc/ufw/ufw\.conf\Z|etc/tuned/tuned-main\.conf\Z"), _on_or_off),
    (lazy_regex(r"etc/nccl\.conf\Z"), _variables),
    (lazy_regex(r"etc/os-release\Z|usr/lib/os-release\Z"), documents.os_release),
    (lazy_regex(r"etc/(containerd|crio|k0s)/|var/(lib/rancher|snap/microk8s)/.*containerd"), runtime_tables),
    (KUBELET, documents.kubelet),
    (lazy_regex(r"var/lib/kubelet/\w+_state\Z"), documents.manager_state),
    (lazy_regex(r"tuneagent/gpus\.json\Z"), lambda text: text),
)
UNITS = lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/systemd/(?!.*\.sh\Z)")
# Scripts, jobs and command lines: what they mention.
SPOKEN = lazy_regex(
    r"etc/(rc\.local|rc\.d/rc\.local|crontab|cron\.[a-z]{1,8}/.*|sysfs\.conf|sysfs\.d/.*|init\.d/.*|cloud/.*|ufw/(?!ufw\.conf).*)\Z"
    r"|var/(spool/cron|lib/cloud|lib/ocp-tuned)/|(usr/local|opt|root|home|srv|usr/s?bin|s?bin)/|usr/lib/systemd/.*\.sh\Z"
    rf"|(etc|usr/lib)/tuned/.*tuned\.conf\Z|({'|'.join(map(re.escape, ARGUMENTS))})\Z|etc/rancher/"
)
PROGRAMS: dict[str, Filter] = {
    "dmesg": documents.kernel_log,
    "systemctl": grammars.unit,
    "timedatectl": grammars.unit,
    "ethtool": documents.table_of_numbers,
}
_ON_OR_OFF = lazy_regex(r"\s*(ENABLED|reapply_sysctl)\s*=\s*([Yy]es|[Nn]o?|[Tt]rue|[Ff]alse|[01])\s*\Z")
