"""What one capture or bundle leaves out: every file, path, answer and value goes through here before it leaves the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from tuneagent.contracts.values import Setting
from tuneagent.facts.kubelet import ARGUMENTS
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.files import ELF
from tuneagent.share.redaction import grammars
from tuneagent.share.redaction.grub_menus import grub_menus, kept_entries
from tuneagent.share.redaction.mentions import Words, assignments, mentions, rancher
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
from tuneagent.share.redaction.rules import (
    PROGRAMS,
    RULES,
    SPOKEN,
    UNITS,
    WORD,
    Filter,
    is_argument,
    is_sysctl,
    nothing,
    plain,
)
from tuneagent.share.redaction.vocabulary import MODULES, is_file_name, known_part

# Files of the kernel that name one machine or one device among its like.
_IDENTITY = lazy_regex(
    r"(serial|serial_number|wwid|uuid|nguid|eui|subsysnqn|address|asset_tag|product_uuid|fastopen_key|unique_id|node_desc|(node|sys_image|port)_guid)\Z"
)
# Attributes of modules are what an administrator gave them: a password of a driver among them.
_MODULE = lazy_regex(r"sys/module/([^/]+)/parameters/")
_ACTIVE_PROFILE = "etc/tuned/active_profile"
_IMAGE = lazy_regex(r"((?:efi|boot|boot/efi)/EFI/Linux/)([^/]+)\.efi(\.extra\.d/.*|)\Z")
_DSN_CAPABILITY = 0x0003
_OF_FIRMWARE = lazy_regex(r"sys/firmware/efi/efivars/Loader[A-Za-z]+-[0-9a-f-]{36}\Z")
# Words of specs: modes, names of profiles of MIG, lists of CPUs, `{reserved}`.
_SETTING = lazy_regex(r"[A-Za-z0-9_.,:+{}<>=-]{1,32}\Z")


class Asked(NamedTuple):
    """What this host's audits look at beyond files of known places.

    Scripts that its boot calls, files of variables that its units name, and what a line says of its settings.
    """

    scripts: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    named: Callable[[str], list[str]] = lambda _: []


class Redactor:
    """One capture's redaction."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._files: dict[str, str] = {}
        self._asked = Asked()

    def learn(self, paths: Collection[str], asked: Asked) -> None:
        """Assign pseudonyms to the configuration files among these paths, before any of them is hidden."""
        self._asked = asked
        names = [path.rpartition("/")[2] for path in paths if CONFIGURED.match(path)]
        # A unit may have drop-ins and no file here.
        names += [unit for path in paths for unit in UNIT_FOLDER.findall(path)]
        # The kubelet goes through files and folders together, in the order of their names.
        names += [part for path in paths if (found := BELOW_KUBELETS.match(path)) for part in found.group(2).split("/")]
        self._files = self._pseudonyms.file_names(names)

    def content(self, path: str, data: bytes) -> bytes:
        """A file's content as it may leave the host."""
        if not data or data == ELF:
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
            return plain(text)
        chosen = (
            self._menus(path)
            or self._spoken(path)
            or next((filter_ for form, filter_ in RULES if form.match(path)), nothing)
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
            return lambda text: grub_menus(text, is_argument, named)
        if re.match(r"boot/grub2?/grubenv\Z", path):
            return lambda text: grammars.boot_entries(kept_entries(text, named), is_argument)
        return None

    def _spoken(self, path: str) -> Filter | None:
        """The filter of units, scripts and jobs, which may call each other; None for other files."""

        def placed(other: str) -> str:
            if self._is_elsewhere(other) or other in ARGUMENTS:
                return self.path(other)
            folder, _, name = other.rpartition("/")
            is_place = OWN.match(other) or not known_part(folder)[1]
            return self.path(other) if name in self._files or (is_place and is_file_name(name)) else ""

        words = Words(is_sysctl, placed, self._variable, self._asked.named)
        if path == _ACTIVE_PROFILE:
            return lambda text: " ".join(map(self._profile, text.split())) + "\n"
        if TUNED_PROFILE.match(path):
            return lambda text: "".join(
                f"{found.group(1)}{self._profiles(found.group(2))}\n"
                if (found := INCLUDE.match(line))
                else mentions(line, words)
                for line in text.splitlines()
            )
        if path in ARGUMENTS or path in self._asked.variables:
            return lambda text: assignments(text, words)
        if UNITS.match(path):
            return lambda text: grammars.unit(text, words)
        if self._is_elsewhere(path):
            return lambda text: mentions(text, words)
        if KUBELET.match(path) or not SPOKEN.match(path):
            return None
        if path.startswith("etc/rancher/"):
            return rancher
        return lambda text: mentions(text, words)

    def _is_elsewhere(self, path: str) -> bool:
        """A script or a file of variables in a folder of its owner's choice, of which no other rule speaks."""
        if path not in self._asked.scripts and path not in self._asked.variables:
            return False
        if ".." in path.split("/"):
            return True
        claimed = (SPOKEN, UNITS, KUBELET, BELOW_KUBELETS, TUNED_PROFILE, *(form for form, _ in RULES))
        return path not in (*ARGUMENTS, _ACTIVE_PROFILE) and not any(form.match(path) for form in claimed)

    def _variable(self, name: str) -> str:
        """What stands for a variable of a unit."""
        return self._pseudonyms.named("VAR", name).replace("-", "_")

    def _profile(self, name: str) -> str:
        """The name of a profile of TuneD: one that packages ship, or what stands for it."""
        return name if is_file_name(name) else self._pseudonyms.named("profile", name)

    def _profiles(self, names: str) -> str:
        return re.sub(r"[^\s,;]+", lambda found: self._profile(found.group(0)), names)

    def path(self, path: str) -> str:
        """A path, without names of this host or of anyone in it."""
        if _OF_FIRMWARE.match(path):
            # The number in it is that of an interface, not of a machine.
            return path
        image = _IMAGE.match(path)
        if image is not None:
            return f"{image.group(1)}{self._pseudonyms.named('image', image.group(2))}.efi{image.group(3)}"
        if self._is_elsewhere(path):
            return f"opt/{self._pseudonyms.named('script', path)}" if self._pseudonyms.enabled else path
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
        chosen = PROGRAMS.get(program.group(1) if program else "", nothing)
        return self._pseudonyms.host_name(self._pseudonyms.text(chosen(output)))

    def sentence(self, text: str, path: str = "") -> str:
        """A message, such as why the file at `path` could not be read."""
        if path:
            text = text.replace(path, self.path(path))
        words = re.sub(
            r"\S+",
            lambda m: m.group(0) if WORD.match(m.group(0)) and len(m.group(0)) < 80 else blank(m.group(0)),
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
            return plain(value)
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
