"""Persistence through the host's own mechanisms, one file each, owned and replaced whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host import Host
from tuneagent.pattern import pattern
from tuneagent.tunable import Facts

HEADER = "# Written by tuneagent, replaced whole at each change. `tuneagent undo` removes it.\n"
_ENTRY = pattern(r"^# tuneagent: (\S+) ?(.*)$", re.MULTILINE)
_VOLATILE = ("tmpfs", "ramfs", "devtmpfs")


def folder_impossible(host: Host, folder: str) -> str | None:
    """Why a file in `folder` would not survive a reboot; None if it would.

    On some node images /etc is a tmpfs, or a read-only image with a writable layer that a reboot drops.
    """
    if not host.files.is_dir(folder):
        return f"there is no /{folder}"
    mount = _mount_of(host, "/" + folder.strip("/"))
    if mount is None:
        return None
    point, kind, options = mount
    if kind in _VOLATILE:
        return f"/{folder} is on a {kind} mounted at {point}, lost at reboot"
    if "ro" in options.split(","):
        return f"/{folder} is on a file system mounted read-only at {point}"
    return None


def _mount_of(host: Host, path: str) -> tuple[str, str, str] | None:
    table = ""
    # /proc/1 is the host's own view also from inside a pod.
    for source in (f"proc/{host.host_pid}/mounts", "proc/self/mounts", "proc/mounts"):
        try:
            table = host.files.read(source)
            break
        except (PathMissing, ReadFailed):
            continue
    best: tuple[str, str, str] | None = None
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and (best is None or len(point) >= len(best[0])):
            best = (point, fields[2], fields[3])
    return best


def by_precedence(host: Host, folders: Iterable[str], suffix: str = ".conf") -> list[str]:
    """Drop-ins in the order of their names; of one name in several folders the first folder's. Raises ReadFailed."""
    files: dict[str, str] = {}
    for folder in folders:
        for name in host.files.names(folder):
            if name.endswith(suffix):
                files.setdefault(name, f"{folder}/{name}")
    return [files[name] for name in sorted(files)]


def noted(entries: Mapping[str, str]) -> str:
    """Entries as comment lines, from which `read_notes` has them back whatever the body looks like."""
    return "".join(f"# tuneagent: {key} {text}".rstrip() + "\n" for key, text in sorted(entries.items()))


def read_notes(text: str) -> dict[str, str]:
    """Entries that `noted` wrote."""
    return {match.group(1): match.group(2) for match in _ENTRY.finditer(text)}


class OwnFiles:
    """A drop-in of one or more files whose entries stand in comments; a subclass says what each file holds."""

    path: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    generates = False

    def impossible(self, facts: Facts) -> str | None:
        """Why the files would not survive a reboot."""
        folder = self.path.rpartition("/")[0]
        # A folder of drop-ins is made where its parent is there.
        while not facts.host.files.is_dir(folder) and folder.count("/") > 1:
            folder = folder.rpartition("/")[0]
        return facts.once(f"impossible {folder}", lambda: folder_impossible(facts.host, folder))

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """Content of each file that these entries need, without header and notes."""
        raise NotImplementedError

    def entries(self, facts: Facts) -> dict[str, str]:
        """Entries of our files, as far as these hold what we would write for them; a file changed by hand has none."""
        texts = {path: facts.host.files.read_or(path, "") for path in self.files}
        found: dict[str, str] = {}
        for text in texts.values():
            found.update(read_notes(text))
        bodies = self.bodies(found) if found else {}
        for path, body in bodies.items():
            own = {key: text for key, text in found.items() if self.belongs(path, key)}
            if texts[path].strip() != (HEADER + noted(own) + body).strip():
                found = {key: text for key, text in found.items() if key not in own}
        return found

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace the files that are needed, remove the others, and the folders that this leaves empty."""
        bodies = self.bodies(entries) if entries else {}
        for path in self.files:
            if path not in bodies:
                facts.host.files.remove(path)
                if path.startswith("etc/systemd/"):
                    # Folders of one unit's drop-ins come and go with them; those of other mechanisms stay.
                    facts.host.files.remove_empty(path.rpartition("/")[0])
                continue
            facts.host.files.make_folder(path.rpartition("/")[0], 0o755)
            own = {key: text for key, text in entries.items() if self.belongs(path, key)}
            facts.host.files.replace(path, (HEADER + noted(own) + bodies[path]).encode())

    def belongs(self, path: str, key: str) -> bool:
        """Whether an entry is noted in this file; all are, where there is one file."""
        del path, key
        return True
