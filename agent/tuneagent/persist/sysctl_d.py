"""sysctl.d: our drop-in, and which file wins for a key (sysctl.d(5), systemd-sysctl(8))."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.machine import Host
from tuneagent.persist.folders import by_precedence, folder_impossible
from tuneagent.persist.own_files import HEADER, put, take_away

# Folders in order of precedence: a file name in an earlier one hides the same name in a later one.
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
# After `99-sysctl.conf`, the link to /etc/sysctl.conf that Debian ships.
OWN_NAME = "99-zz-tuneagent.conf"
_LINE = lazy_regex(r"-?\s*([^\s=]+)\s*=\s*(.*?)\s*\Z")
# `-net.core.rmem_max` alone: no glob sets this key.
_EXCLUSION = lazy_regex(r"-\s*([^\s=]+)\s*\Z")


class BootSetting(msgspec.Struct, frozen=True):
    """What a file says of a key."""

    value: str
    file: str
    # Place among all lines that the boot applies.
    order: int = 0


def normal_key(key: str) -> str:
    """`net.core.rmem_max` for either spelling; the first separator decides, as in sysctl.d(5)."""
    first_slash, first_dot = key.find("/"), key.find(".")
    if first_slash >= 0 and (first_dot < 0 or first_slash < first_dot):
        return key.replace(".", "\0").replace("/", ".").replace("\0", "/")
    return key


def parse(text: str) -> dict[str, str]:
    """Keys and values of one file. A later line wins."""
    return {key: value for key, value in _lines(text).items() if value is not None}


def _lines(text: str) -> dict[str, str | None]:
    """The same with the keys that a line takes out, as None."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        match = _LINE.match(stripped) or _EXCLUSION.match(stripped)
        if match:
            key = normal_key(match.group(1))
            value = " ".join(match.group(2).split()) if match.lastindex == 2 else None
            if key not in found or found[key] != value:
                found.pop(key, None)  # Given another value, the key has the place of its last line.
                found[key] = value
    return found


def number(text: str) -> int | None:
    """The number that the kernel reads: hexadecimal behind 0x, octal behind 0, no plus sign (kernel/sysctl.c)."""
    match = re.match(r"(-?)(?:0[xX]([0-9a-fA-F]{1,16})|0([0-7]{1,22})|([0-9]{1,20}))\Z", text)
    if match is None or (match.group(4) or "").startswith("0") != (match.group(4) == "0"):
        return None
    digits, base = next((found, base) for found, base in zip(match.group(2, 3, 4), (16, 8, 10), strict=True) if found)
    return int(match.group(1) + digits, base)


def at_boot(facts: Facts, key: str) -> list[BootSetting]:
    """What the files say of a key, in the order in which the boot applies it. Raises ReadFailed.

    A line with wildcards counts where no line names the key itself (sysctl.d(5)).
    """
    found = facts.once("sysctl.d", lambda: all_settings(facts.host))
    if key in found:
        return found[key]
    globs = [(glob, setting) for glob, lines in found.items() if _is_glob(glob) for setting in lines]
    return sorted((setting for glob, setting in globs if covers(glob, key)), key=lambda setting: setting.order)


def _is_glob(key: str) -> bool:
    return any(mark in key for mark in "*?[")


def covers(glob: str, key: str) -> bool:
    """Whether a key with wildcards stands for this one; no wildcard stands for a dot, `{a,b}` for either."""
    parts = [part.split(",") if number % 2 else [part] for number, part in enumerate(re.split(r"[{}]", glob))]
    asked = key.split(".")
    for one in itertools.islice(itertools.product(*parts), 256):
        pieces = "".join(one).split(".")
        if len(pieces) == len(asked) and all(map(fnmatchcase, asked, pieces)):
            return True
    return False


def without_ours(settings: Sequence[BootSetting]) -> BootSetting | None:
    """What the boot would set if our file were not there."""
    return next((setting for setting in reversed(settings) if setting.file != f"/{SysctlD.path}"), None)


def all_settings(host: Host) -> dict[str, list[BootSetting]]:
    """For each key what the files say of it, in the order in which the boot applies them. Raises ReadFailed."""
    found: dict[str, list[BootSetting]] = {}
    order = 0
    for path in by_precedence(host, FOLDERS):
        try:
            text = host.files.read(path)
        except PathMissing:
            # A link to nowhere, or to /dev/null, masks the files of that name.
            continue
        except ReadFailed:
            if host.files.is_mask(path):
                continue
            raise
        for key, value in _lines(text).items():
            order += 1
            # What is taken out is in the way of wildcards, as a line that names it would be, but it sets nothing.
            before = found.get(key, [])
            # The same value once more leaves the line where it is.
            place = before[-1].order if before and before[-1].value == value else order
            found[key] = [] if value is None else [*before, BootSetting(value, "/" + path, place)]
    return found


class SysctlD:
    """Our file in /etc/sysctl.d."""

    path = f"etc/sysctl.d/{OWN_NAME}"
    files = (path,)
    generates = False

    def impossible(self, facts: Facts) -> str | None:
        """Why the file would not survive a reboot."""
        return facts.once("impossible etc/sysctl.d", lambda: folder_impossible(facts.host, "etc/sysctl.d"))

    def entries(self, facts: Facts) -> dict[str, str]:
        """Keys that our file sets."""
        return parse(facts.host.files.read_or(self.path, ""))

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """Our one file holds these, or is not there where there are none."""
        return self.entries(facts) == entries and (bool(entries) or not facts.host.files.exists(self.path))

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace or remove our file."""
        if not entries:
            take_away(facts, self.path)
            return
        body = "".join(f"{key} = {value}\n" for key, value in sorted(entries.items()))
        put(facts, self.path, HEADER + body)
