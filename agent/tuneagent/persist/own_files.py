"""Files of ours in the folders of the host's own mechanisms, owned and replaced whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from tuneagent.errors import WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.folders import folder_impossible

HEADER = "# Written by tuneagent, replaced whole at each change. `tuneagent undo` removes it.\n"
_ENTRY = lazy_regex(r"^# tuneagent: (\S+) ?(.*)$", re.MULTILINE)


# In a file whose folder was made with it: undo takes that folder away again.
_MADE = lazy_regex(r"^# tuneagent made the folder /(\S+) with this file\.$", re.MULTILINE)


def not_ours(facts: Facts, paths: Iterable[str]) -> str | None:
    """Why what lies under a name of ours is someone else's, and left; None where it is ours or nothing is there."""
    links = [path for path in paths if facts.host.files.is_link(path)]
    return f"/{links[0]} is a link, not a file of tuneagent's" if links else None


def own_text(facts: Facts, path: str) -> str:
    """Content of a file of ours; what a link leads to is none. Raises ReadFailed."""
    return "" if facts.host.files.is_link(path) else facts.host.files.read_or(path, "")


def put(facts: Facts, path: str, text: str) -> None:
    """Replace a file of ours, with its folder where that is missing. Raises WriteFailed."""
    files = facts.host.files
    if files.is_link(path):
        raise WriteFailed(f"/{path}: a link, not a file of tuneagent's; it is left as it is")
    made = _MADE.search(files.read_or(path, ""))
    top = made.group(1) if made else None
    if top is None and not files.is_dir(path.rpartition("/")[0]):
        top = path.rpartition("/")[0]
        while "/" in top and not files.is_dir(top.rpartition("/")[0]):
            top = top.rpartition("/")[0]
    mark = f"# tuneagent made the folder /{top} with this file.\n" if top else ""
    head, _, rest = text.partition("\n")
    files.replace(path, f"{head}\n{mark}{rest}".encode())


def take_away(facts: Facts, path: str) -> None:
    """Remove a file of ours, and its folder where that was made with it and nothing else is in it."""
    files = facts.host.files
    if files.is_link(path):
        return
    made = _MADE.search(files.read_or(path, ""))
    if made is None:
        files.remove(path)
    else:
        files.remove_with_folder(path, made.group(1))


def noted(entries: Mapping[str, str]) -> str:
    """Entries as comment lines, from which `read_notes` has them back whatever the body looks like."""
    return "".join(f"# tuneagent: {key} {text}".rstrip() + "\n" for key, text in sorted(entries.items()))


def read_notes(text: str) -> dict[str, str]:
    """Entries that `noted` wrote."""
    return {match.group(1): match.group(2) for match in _ENTRY.finditer(text)}


def _lines(text: str) -> list[str]:
    """Lines of a file of ours, but for the mark of its folder."""
    return [line for line in text.strip().splitlines() if line and not _MADE.match(line)]


class OwnFiles:
    """A drop-in of one or more files whose entries stand in comments; a subclass says what each file holds."""

    path: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    generates = False

    def impossible(self, facts: Facts) -> str | None:
        """Why the files would not survive a reboot."""
        foreign = not_ours(facts, self.files)
        if foreign is not None:
            return foreign
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
        texts = {path: own_text(facts, path) for path in self.files}
        found: dict[str, str] = {}
        for text in texts.values():
            found.update(read_notes(text))
        bodies = self.bodies(found) if found else {}
        for path, body in bodies.items():
            own = {key: text for key, text in found.items() if self.belongs(path, key)}
            if _lines(texts[path]) != _lines(HEADER + noted(own) + body):
                found = {key: text for key, text in found.items() if key not in own}
        return found

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """Every file is as it should be; a death between two of them leaves one that is not."""
        bodies = self.bodies(entries) if entries else {}
        for path in self.files:
            text = own_text(facts, path)
            own = {key: value for key, value in entries.items() if self.belongs(path, key)}
            if _lines(text) != (_lines(HEADER + noted(own) + bodies[path]) if path in bodies else []):
                return False
        return True

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace the files that are needed, remove the others."""
        bodies = self.bodies(entries) if entries else {}
        for path in self.files:
            if path not in bodies:
                take_away(facts, path)
                continue
            own = {key: text for key, text in entries.items() if self.belongs(path, key)}
            put(facts, path, HEADER + noted(own) + bodies[path])

    def belongs(self, path: str, key: str) -> bool:
        """Whether an entry is noted in this file; all are, where there is one file."""
        del path, key
        return True
