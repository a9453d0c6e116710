"""sysctl.d: our drop-in, and which file wins for a key (sysctl.d(5), systemd-sysctl(8))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.sysctl_d import covers, is_glob, lines, parse
from tuneagent.host.machine import Host
from tuneagent.persist.folders import by_precedence, folder_impossible
from tuneagent.persist.own_files import HEADER, not_ours, own_text, put, take_away

# Folders in order of precedence: a file name in an earlier one hides the same name in a later one.
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
# After `99-sysctl.conf`, the link to /etc/sysctl.conf that Debian ships.
OWN_NAME = "99-zz-tuneagent.conf"


class BootSetting(msgspec.Struct, frozen=True):
    """What a file says of a key."""

    value: str
    file: str
    # Place among all lines that the boot applies.
    order: int = 0


def at_boot(facts: Facts, key: str) -> list[BootSetting]:
    """What the files say of a key, in the order in which the boot applies it. Raises ReadFailed.

    A line with wildcards counts where no line names the key itself (sysctl.d(5)).
    """
    found = facts.once("sysctl.d", lambda: all_settings(facts.host))
    if key in found:
        return found[key]
    globs = [(glob, setting) for glob, lines in found.items() if is_glob(glob) for setting in lines]
    return sorted((setting for glob, setting in globs if covers(glob, key)), key=lambda setting: setting.order)


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
        for key, value in lines(text).items():
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
        return facts.once(
            "impossible etc/sysctl.d",
            lambda: not_ours(facts, self.files) or folder_impossible(facts.host, "etc/sysctl.d"),
        )

    def entries(self, facts: Facts) -> dict[str, str]:
        """Keys that our file sets."""
        return parse(own_text(facts, self.path))

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
