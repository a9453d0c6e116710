"""sysctl.d: our drop-in, and which file wins for a key (sysctl.d(5), systemd-sysctl(8))."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.formats.sysctl_d import covers, is_glob, lines, parse
from tuneagent.host.machine import Host
from tuneagent.persist.folders import folder_impossible
from tuneagent.persist.own_files import HEADER, not_ours, own_text, put, take_away

# Folders in order of precedence: a file name in an earlier one hides the same name in a later one.
# Without those in /run, which a reboot empties.
FOLDERS = ("etc/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
# After `99-sysctl.conf`, the link to /etc/sysctl.conf that Debian ships.
OWN_NAME = "99-zz-tuneagent.conf"


class BootSetting(msgspec.Struct, frozen=True):
    """What a line gives a key."""

    value: str
    file: str
    # Place among all lines that the boot applies.
    order: int = 0


class _Line(msgspec.Struct, frozen=True):
    """A line about a key; without a value it takes the key out of every wildcard."""

    value: str | None
    file: str
    order: int


def at_boot(facts: Facts, key: str, *, without_ours: bool = False) -> list[BootSetting]:
    """What the boot writes to a key, in order. Raises ReadFailed.

    Of each spelling, a key or one with wildcards, the last line alone is written; wildcards count where no line names
    the key itself (sysctl.d(5)). Of several the last that the kernel takes is in force.
    """
    found = facts.once("sysctl.d", lambda: all_settings(facts.host))

    def last(name: str) -> _Line | None:
        lines = [one for one in found.get(name, ()) if not (without_ours and one.file == f"/{SysctlD.path}")]
        return lines[-1] if lines else None

    exact = last(key)
    chosen = [exact] if exact else [last(name) for name in found if is_glob(name) and covers(name, key)]
    return sorted(_settings(chosen), key=lambda one: one.order)


def lines_of(facts: Facts, key: str) -> list[BootSetting]:
    """Every line that names a key and gives it a value, whether or not it wins. Raises ReadFailed."""
    found = facts.once("sysctl.d", lambda: all_settings(facts.host))
    return _settings(found.get(key, ()))


def _settings(lines: Iterable[_Line | None]) -> list[BootSetting]:
    return [BootSetting(one.value, one.file, one.order) for one in lines if one and one.value is not None]


def all_settings(host: Host) -> dict[str, list[_Line]]:
    """For each key what the files say of it, in the order in which the boot reads them. Raises ReadFailed."""
    found: dict[str, list[_Line]] = {}
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
        for key, value in lines(text):
            order += 1
            before = found.get(key, [])
            # The same value once more leaves the line where it is.
            place = before[-1].order if before and before[-1].value == value else order
            found[key] = [*before, _Line(value, "/" + path, place)]
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
