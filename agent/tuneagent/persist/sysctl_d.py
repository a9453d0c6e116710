"""sysctl.d: our drop-in, and which file wins for a key (sysctl.d(5), systemd-sysctl(8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host import Host
from tuneagent.pattern import pattern
from tuneagent.persist import HEADER, by_precedence, folder_impossible
from tuneagent.tunable import Facts

# Folders in order of precedence: a file name in an earlier one hides the same name in a later one.
FOLDERS = ("etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d")
# After `99-sysctl.conf`, the link to /etc/sysctl.conf that Debian ships.
OWN_NAME = "99-zz-tuneagent.conf"
_LINE = pattern(r"-?\s*([^\s=]+)\s*=\s*(.*?)\s*\Z")


@dataclass(frozen=True)
class Setting:
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
    found: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        match = _LINE.match(stripped)
        if match:
            key = normal_key(match.group(1))
            found.pop(key, None)  # Given twice, the key has the place of its last line.
            found[key] = " ".join(match.group(2).split())
    return found


def winners(facts: Facts) -> dict[str, Setting]:
    """For each key the setting that the boot applies last, read once in a pass. Raises ReadFailed."""
    return facts.once("sysctl.d", lambda: {key: found[-1] for key, found in all_settings(facts.host).items()})


def all_settings(host: Host) -> dict[str, list[Setting]]:
    """For each key what the files say of it, in the order in which the boot applies them. Raises ReadFailed."""
    found: dict[str, list[Setting]] = {}
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
        for key, value in parse(text).items():
            order += 1
            found.setdefault(key, []).append(Setting(value, "/" + path, order))
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

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace or remove our file."""
        if not entries:
            facts.host.files.remove(self.path)
            return
        body = "".join(f"{key} = {value}\n" for key, value in sorted(entries.items()))
        facts.host.files.replace(self.path, (HEADER + body).encode())
