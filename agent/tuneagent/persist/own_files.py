"""Persistence through the host's own mechanisms, one file each, owned and replaced whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import pattern
from tuneagent.persist.folders import folder_impossible

HEADER = "# Written by tuneagent, replaced whole at each change. `tuneagent undo` removes it.\n"
_ENTRY = pattern(r"^# tuneagent: (\S+) ?(.*)$", re.MULTILINE)


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
