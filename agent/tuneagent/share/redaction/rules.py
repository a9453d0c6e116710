"""Which filter a file or a program's answer gets. What no rule knows is replaced whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from tuneagent.checks.environment import NAMES as VARIABLES
from tuneagent.contracts.values import Setting
from tuneagent.facts.kubelet import ARGUMENTS
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.sysctl_d import covers
from tuneagent.share.redaction import documents, grammars
from tuneagent.share.redaction.grub_menus import grub_menus, kept_entries
from tuneagent.share.redaction.mentions import mentions, rancher
from tuneagent.share.redaction.places import (
    BELOW_KUBELETS,
    CONFIGURED,
    DEVICES,
    INCLUDE,
    KUBELET,
    NAMED,
    OWN,
    STARTED,
    TUNED_PROFILE,
    UNIT_FOLDER,
)
from tuneagent.share.redaction.pseudonyms import Pseudonyms, blank
from tuneagent.share.redaction.runtime_tables import runtime_tables
from tuneagent.share.redaction.udev_rules import udev_rules
from tuneagent.share.redaction.vocabulary import MODULES, NETWORK, is_file_name, known_part
from tuneagent.tunables.kernel_arguments import ALLOWED as KERNEL_ARGUMENTS
from tuneagent.tunables.sysctl import is_allowed
from tuneagent.tunables.tables.sysctl import ROWS
from tuneagent.tunables.tables.sysctl_keys import ELSEWHERE

Filter = Callable[[str], str]
_WORD = lazy_regex(r"[\[\]<>()A-Za-z0-9_+.,:;/%=*#@|&'\"!-]{1,256}\Z")
# Files of the kernel that name one machine or one device among its like.
_IDENTITY = lazy_regex(
    r"(serial|serial_number|wwid|uuid|nguid|eui|subsysnqn|address|asset_tag|product_uuid|fastopen_key|unique_id|node_desc|(node|sys_image|port)_guid)\Z"
)
# Attributes of modules are what an administrator gave them: a password of a driver among them.
_MODULE = lazy_regex(r"sys/module/([^/]+)/parameters/")
_DSN_CAPABILITY = 0x0003
# Words of specs: modes, names of profiles of MIG, lists of CPUs, `{reserved}`.
_SETTING = lazy_regex(r"[A-Za-z0-9_.,:+{}<>=-]{1,32}\Z")


def _is_argument(name: str) -> bool:
    return bool(KERNEL_ARGUMENTS.fullmatch(name.replace("-", "_")) or KERNEL_ARGUMENTS.fullmatch(name))


def _is_sysctl(key: str) -> bool:
    first_slash, first_dot = key.find("/"), key.find(".")
    dotted = key.replace("/", ".") if first_slash >= 0 and (first_dot < 0 or first_slash < first_dot) else key
    return dotted in ELSEWHERE or is_allowed(dotted) or any(covers(dotted, one) for one in (*ROWS, *ELSEWHERE))


def _kernel_line(text: str) -> str:
    return grammars.kernel_line(text, _is_argument)


def _nothing(text: str) -> str:
    return grammars.comment(text) + "\n" if text.strip() else text


def _kernel_text(text: str) -> str:
    """What the kernel prints about itself, in its own words."""
    return re.sub(r"\S+", lambda m: m.group(0) if _WORD.match(m.group(0)) else blank(m.group(0)), text)


def _plain(text: str) -> str:
    return grammars.plain_words(text, NETWORK)


def _notes(text: str) -> str:
    """Our record for grubby: names and words of kernel arguments behind `# tuneagent:` and `# before:`."""

    def keep(line: str) -> str | None:
        match = re.match(r"(# (?:tuneagent|before): )(\S+)( ?)(.*)\Z", line)
        if match is None:
            return line if line.startswith("# Written by tuneagent") else None
        if not _is_argument(match.group(2)):
            return None
        return f"{match.group(1)}{match.group(2)}{match.group(3)}{_kernel_line(match.group(4))}"

    return grammars.by_line(text, keep)


def _on_or_off(text: str) -> str:
    """Whether a firewall is on, and whether TuneD applies sysctl.d once more."""
    return grammars.by_line(text, lambda line: line if _ON_OR_OFF.match(line) else None)


def _variables(text: str) -> str:
    return documents.variables(text, VARIABLES)


_RULES: tuple[tuple[re.Pattern[str], Filter], ...] = (
    (lazy_regex(r"proc/cmdline\Z"), _kernel_line),
    (lazy_regex(r"proc/cpuinfo\Z"), documents.cpuinfo),
    (lazy_regex(r"proc/(\d+|self)/(mounts|mountinfo)\Z|proc/mounts\Z"), documents.mounts),
    (lazy_regex(r"proc/swaps\Z"), documents.swaps),
    (lazy_regex(r"proc/sys/kernel/(osrelease|ostype|arch|version|hostname|random/boot_id)\Z"), lambda text: text),
    (lazy_regex(r"proc/sys/"), _plain),
    (lazy_regex(r"proc/driver/nvidia/(params|registry)\Z"), documents.driver_table),
    (lazy_regex(r"proc/driver/nvidia/"), _kernel_text),
    (
        lazy_regex(r"proc/(\d+/(limits|status|numa_maps|cgroup)|self/limits|[a-z_]+\Z|irq/|net/|pressure/)"),
        _kernel_text,
    ),
    (lazy_regex(r"sys/"), _kernel_text),
    (
        lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/sysctl\.d/|etc/sysctl\.conf\Z"),
        lambda t: grammars.sysctl(t, _is_sysctl),
    ),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib)/tmpfiles\.d/"), grammars.tmpfiles),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/modprobe\.d/"), grammars.modprobe),
    (lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/udev/rules\.d/"), udev_rules),
    (lazy_regex(r"etc/security/limits(\.d/|\.conf\Z)"), grammars.limits),
    (lazy_regex(r"etc/default/grub(\.d/|\Z)"), lambda text: grammars.grub_defaults(text, _is_argument)),
    (lazy_regex(r"boot/|efi/|etc/kernel/"), lambda text: grammars.boot_entries(text, _is_argument)),
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
_UNITS = lazy_regex(r"(etc|run|usr/local/lib|usr/lib|lib)/systemd/(?!.*\.sh\Z)")
# Scripts, jobs and command lines: what they mention.
_SPOKEN = lazy_regex(
    r"etc/(rc\.local|rc\.d/rc\.local|crontab|cron\.[a-z]{1,8}/.*|sysfs\.conf|sysfs\.d/.*|init\.d/.*|cloud/.*|ufw/(?!ufw\.conf).*)\Z"
    r"|var/(spool/cron|lib/cloud|lib/ocp-tuned)/|(usr/local|opt|root|home|srv|usr/s?bin|s?bin)/|usr/lib/systemd/.*\.sh\Z"
    rf"|(etc|usr/lib)/tuned/.*tuned\.conf\Z|({'|'.join(map(re.escape, ARGUMENTS))})\Z|etc/rancher/"
)
_PROGRAMS: dict[str, Filter] = {
    "dmesg": documents.kernel_log,
    "systemctl": lambda text: grammars.unit(text, lambda _: ""),
    "timedatectl": lambda text: grammars.unit(text, lambda _: ""),
    "ethtool": documents.table_of_numbers,
}
_ON_OR_OFF = lazy_regex(r"\s*(ENABLED|reapply_sysctl)\s*=\s*([Yy]es|[Nn]o?|[Tt]rue|[Ff]alse|[01])\s*\Z")


class Redactor:
    """One capture's redaction."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._files: dict[str, str] = {}

    def learn(self, paths: Collection[str]) -> None:
        """Assign pseudonyms to the configuration files among these paths, before any of them is hidden."""
        names = [path.rpartition("/")[2] for path in paths if CONFIGURED.match(path)]
        # A unit may have drop-ins and no file here.
        names += [unit for path in paths for unit in UNIT_FOLDER.findall(path)]
        # The kubelet goes through files and folders together, in the order of their names.
        names += [part for path in paths if (found := BELOW_KUBELETS.match(path)) for part in found.group(2).split("/")]
        self._files = self._pseudonyms.file_names(names)

    def content(self, path: str, data: bytes) -> bytes:
        """A file's content as it may leave the host."""
        if not data:
            return data
        if re.match(r"sys/bus/pci/devices/[^/]+/config\Z", path):
            return _without_serial(data)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # A row that cannot read it says the same of the copy.
            return b"\xff" + blank("?" * len(data)).encode()
        return self._text(path, text).encode()

    def _text(self, path: str, text: str) -> str:
        module = _MODULE.match(path)
        if path.startswith(("sys/", "proc/sys/")) and _IDENTITY.search(path.rpartition("/")[2]):
            return self._pseudonyms.text(text) if _is_address(text) else blank(text.strip()) + "\n"
        if module and not MODULES.match(module.group(1)):
            return _plain(text)
        chosen = (
            self._menus(path)
            or self._spoken(path)
            or next((filter_ for form, filter_ in _RULES if form.match(path)), _nothing)
        )
        try:
            kept = self._pseudonyms.text(chosen(text))
        except Exception:
            # What its filter cannot handle is removed; a row that cannot read it says the same of the copy.
            return f"\0{blank(text)}\n"
        return self._pseudonyms.host_name(kept) if NAMED.match(path) else kept

    def _menus(self, path: str) -> Filter | None:
        """The filter of GRUB's two files, which name entries alike; None for other files."""

        def named(text: str) -> str:
            return self._pseudonyms.named("entry", text)

        if re.match(r"boot/grub2?/grub\.cfg\Z", path):
            return lambda text: grub_menus(text, _is_argument, named)
        if re.match(r"boot/grub2?/grubenv\Z", path):
            return lambda text: grammars.boot_entries(kept_entries(text, named), _is_argument)
        return None

    def _spoken(self, path: str) -> Filter | None:
        """The filter of units, scripts and jobs, which may call each other; None for other files."""

        def placed(other: str) -> str:
            folder, _, name = other.rpartition("/")
            is_place = OWN.match(other) or not known_part(folder)[1]
            return self.path(other) if name in self._files or (is_place and is_file_name(name)) else ""

        if path == "etc/tuned/active_profile":
            return lambda text: " ".join(map(self._profile, text.split())) + "\n"
        if TUNED_PROFILE.match(path):
            return lambda text: "".join(
                f"{found.group(1)}{self._profiles(found.group(2))}\n"
                if (found := INCLUDE.match(line))
                else mentions(line, _is_sysctl, placed)
                for line in text.splitlines()
            )
        if _UNITS.match(path):
            return lambda text: grammars.unit(text, lambda line: mentions(line, _is_sysctl, placed).strip())
        if KUBELET.match(path) or not _SPOKEN.match(path):
            return None
        if path.startswith("etc/rancher/"):
            return rancher
        return lambda text: mentions(text, _is_sysctl, placed)

    def _profile(self, name: str) -> str:
        """The name of a profile of TuneD: one that packages ship, or what stands for it."""
        return name if is_file_name(name) else self._pseudonyms.named("profile", name)

    def _profiles(self, names: str) -> str:
        return re.sub(r"[^\s,;]+", lambda found: self._profile(found.group(0)), names)

    def path(self, path: str) -> str:
        """A path, without names of this host or of anyone in it."""
        profile = TUNED_PROFILE.match(path)
        if profile is not None:
            path = f"{profile.group(1)}{self._profile(profile.group(2))}{profile.group(3)}"
        path = UNIT_FOLDER.sub(
            lambda found: found.group(0).replace(found.group(1), self._files.get(found.group(1), found.group(1))), path
        )
        below = BELOW_KUBELETS.match(path)
        if below is not None:
            return below.group(1) + "/".join(self._files.get(part, part) for part in below.group(2).split("/"))
        folder, slash, name = path.rpartition("/")
        # Folders of people have names of their own also where the file's is everybody's.
        if CONFIGURED.match(path) and (name in self._files or OWN.match(path)):
            if OWN.match(path):
                known, own = known_part(folder)
                folder = f"{known}/{self._pseudonyms.named('folder', own)}" if own else known
            hidden = self._pseudonyms.host_name(self._pseudonyms.text(folder))
            return hidden + slash + self._files.get(name, name)
        started = STARTED.match(path)
        if started is not None:
            # A link to the script of that name.
            return started.group(1) + self._files.get(started.group(2), started.group(2))
        top, _, rest = path.partition("/")
        device, slash, more = rest.partition("/")
        if top == "dev" and device and not DEVICES.match(device):
            # Usually a volume group, with the name that its owner gave it.
            path = f"dev/{self._pseudonyms.named('device', device)}{slash}{more}"
        found = self._pseudonyms.text(path)
        return self._pseudonyms.host_name(found) if NAMED.match(path) else found

    def answer(self, argv: str, output: str) -> str:
        """What a program printed."""
        program = re.match(r'\["([a-z0-9-]+)"', argv)
        chosen = _PROGRAMS.get(program.group(1) if program else "", _nothing)
        return self._pseudonyms.host_name(self._pseudonyms.text(chosen(output)))

    def sentence(self, text: str, path: str = "") -> str:
        """A message, such as why the file at `path` could not be read."""
        if path:
            text = text.replace(f"/{path}", f"/{self.path(path)}")
        words = re.sub(
            r"\S+",
            lambda m: m.group(0) if _WORD.match(m.group(0)) and len(m.group(0)) < 80 else blank(m.group(0)),
            text,
        )
        for name, other in self._files.items():
            words = words.replace(f"/{name}", f"/{other}")
        return self._pseudonyms.host_name(self._pseudonyms.text(words[:500]))

    def named(self, kind: str, name: str) -> str:
        """A name that people gave, as of a profile."""
        return self._pseudonyms.named(kind, name)

    def setting(self, value: Setting, *, tunable: str = "") -> Setting:
        """A value of a journal or a profile: numbers, switches and short words, for sysctls only the kernel's own."""
        if isinstance(value, dict):
            return {self._key(str(key)): self.setting(one, tunable=tunable) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.setting(one, tunable=tunable) for one in value]
        if not isinstance(value, str):
            return value
        if tunable == "sysctl":
            return _plain(value)
        words = [one if _SETTING.match(one) else blank(one) for one in value.split()]
        return self._pseudonyms.host_name(self._pseudonyms.text(" ".join(words)))

    def _key(self, key: str) -> str:
        known = key if _SETTING.match(key) or re.match(r"[A-Za-z0-9_.:-]{1,64}\Z", key) else blank(key)
        return self._pseudonyms.host_name(self._pseudonyms.text(known))

    def tune(self, tune: Mapping[str, Setting]) -> dict[str, Setting]:
        """The settings of a profile."""
        return {name: self.setting(spec, tunable=name) for name, spec in tune.items()}


def _is_address(text: str) -> bool:
    return bool(re.match(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\s*\Z", text))


def _without_serial(data: bytes) -> bytes:
    """PCI configuration space with the device's serial number (extended capability 0003h) set to zero."""
    found = bytearray(data)
    place, seen = 0x100, set[int]()
    while 0x100 <= place <= len(found) - 4 and place not in seen:
        seen.add(place)
        header = int.from_bytes(found[place : place + 4], "little")
        if header & 0xFFFF == _DSN_CAPABILITY:
            found[place + 4 : place + 12] = bytes(len(found[place + 4 : place + 12]))
        place = header >> 20
    return bytes(found)
