"""grub.cfg: which menu entry boots, and the line that it gives the kernel. The host tier compares with grub-emu.

Variables, conditions on them, and menus within menus, as far as grub-mkconfig writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from tuneagent.errors import ReadFailed
from tuneagent.formats.grub_script import DEPTH_LIMIT, Block, Command, branches_of, commands_of
from tuneagent.formats.lazy_regex import lazy_regex

_PIECE = lazy_regex(
    r"\"(?P<soft>(?:[^\"\\]|\\.)*)\"|'(?P<hard>[^']*)'|\\(?P<escaped>.)|(?P<plain>(?:\$\{[^}]*\}|[^\"'\\])+)"
)
_VARIABLE = lazy_regex(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*|[0-9@?*#]))")
# What every GRUB 2 sets before it reads the file.
_FEATURES = dict.fromkeys(
    ("feature_menuentry_id", "feature_menuentry_options", "feature_timeout_style", "feature_default_font_path",
     "feature_all_video_module", "feature_platform_search_hint", "feature_nativedisk_cmd", "feature_200_final",
     "feature_chainloader_bpb", "feature_ntldr"), "y",
)  # fmt: skip
KERNELS = ("linux", "linux16", "linuxefi")


class Entry(NamedTuple):
    """An entry of a menu: one that boots a kernel, or a menu of its own."""

    title: str
    id: str
    commands: list[Command]
    is_menu: bool


def environment(grubenv: str) -> dict[str, str]:
    """Variables of the block that GRUB keeps between boots."""
    lines = [line for line in grubenv.splitlines() if not line.startswith("#")]
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def next_kernel_line(text: str, kept: Mapping[str, str], custom: str | None = None) -> str:
    """The arguments of the kernel that boots next, as they are written. Raises ReadFailed where that is not certain.

    `kept` are the variables of grubenv, `custom` is the file custom.cfg beside grub.cfg, which that reads.
    """
    reader = _Reader(kept, custom)
    commands = commands_of(text)
    entries = reader.menu(commands)
    if not entries:
        # A file without a menu boots what it names itself.
        return _kernel_line(Entry("(no menu)", "", commands, False), reader.variables)
    default = reader.variables.get("default", "")
    for _ in range(DEPTH_LIMIT):
        if not entries:
            break
        reader.check(entries, default.partition(">")[0])
        entry, default = _chosen(entries, default)
        if not entry.is_menu:
            return _kernel_line(entry, reader.variables)
        reader.enter()
        entries = reader.menu(entry.commands)
    raise ReadFailed("GRUB configuration: the default leads to no entry with a `linux` line")


def _kernel_line(entry: Entry, variables: Mapping[str, str]) -> str:
    lines = [command for command in entry.commands if command and command[0] in KERNELS]
    if not lines:
        raise ReadFailed(f"GRUB configuration: the default entry {entry.title!r} has no `linux` line")
    text = " ".join(word for word in lines[-1][2:] if isinstance(word, str))
    return _VARIABLE.sub(lambda found: variables.get(found.group(1) or found.group(2), ""), text).strip()


def _chosen(entries: list[Entry], default: str) -> tuple[Entry, str]:
    """The entry that a `default` names at one level, and what it says of the next; the first where it names none."""
    name, _, rest = default.partition(">")
    number = re.match(r"\d+\Z", name)
    if number is not None:
        return entries[int(name) if int(name) < len(entries) else 0], rest
    found = next((entry for entry in entries if name and name in (entry.title, entry.id)), None)
    return found or entries[0], rest


class _Reader:
    """Runs the commands of a file, as far as they make menus."""

    def __init__(self, kept: Mapping[str, str], custom: str | None) -> None:
        self.kept = kept
        self.custom = custom
        # How many entries of the menu are certain, where a condition that only GRUB knows makes more; and their names.
        self.certain: int | None = None
        self.possible: set[str] = set()
        self.variables: dict[str, str] = dict(_FEATURES)
        self.exported: set[str] = set(_FEATURES)
        self.unknown: set[str] = set()

    def check(self, entries: list[Entry], name: str) -> None:
        """Raise ReadFailed where entries that may be there or not decide which one a default names."""
        if self.certain is None:
            return
        before = {word for entry in entries[: self.certain] for word in (entry.title, entry.id)}
        after = {word for entry in entries[self.certain :] for word in (entry.title, entry.id)} | self.possible
        is_open = int(name) >= self.certain if re.match(r"\d+\Z", name) else name in after - before
        if is_open or self.certain == 0:
            raise ReadFailed("GRUB configuration: which entry boots is decided by GRUB at boot")

    def enter(self) -> None:
        """Go into a menu, which has the exported variables alone."""
        self.certain, self.possible = None, set()
        self.variables = {name: value for name, value in self.variables.items() if name in self.exported}

    def menu(self, commands: list[Command]) -> list[Entry]:
        """Entries that the commands make, in their order."""
        found: list[Entry] = []
        self._run(commands, found, 0)
        return found

    def _run(self, commands: list[Command], found: list[Entry], depth: int) -> None:
        if depth > DEPTH_LIMIT:
            raise ReadFailed("GRUB configuration: conditions are nested too deeply")
        place = 0
        while place < len(commands):
            words = [word for word in commands[place] if isinstance(word, str)]
            first = words[0] if words else ""
            if first == "if":
                place = self._if(commands, place, found, depth)
                continue
            self._one(first, commands[place], found)
            place += 1

    def _if(self, commands: list[Command], start: int, found: list[Entry], depth: int) -> int:
        """Run the branch that holds; where that is not known none may matter. The place after `fi`."""
        branches, end = branches_of(commands, start)
        for condition, body in branches:
            holds = True if condition is None else self._holds(condition)
            if holds is None:
                self._note_open([body for _, body in branches], found)
                break
            if holds:
                self._run(body, found, depth + 1)
                break
        return end

    def _note_open(self, bodies: list[list[Command]], found: list[Entry]) -> None:
        """Note what branches would change of which one is run, or none. Raises ReadFailed for the default entry."""
        for command in (command for body in bodies for command in body):
            words = [word for word in command if isinstance(word, str)]
            first = words[0] if words else ""
            name = (words[1] if first == "set" and len(words) > 1 else first).partition("=")[0]
            if name == "default":
                raise ReadFailed("GRUB configuration: which entry boots is decided by GRUB at boot")
            if first in ("menuentry", "submenu"):
                self.certain = len(found) if self.certain is None else self.certain
                entry = self._entry(first, words[1:], Block([]))
                self.possible |= {entry.title, entry.id}
            elif first == "set" or "=" in first:
                self.unknown.add(name)

    def _one(self, first: str, command: Command, found: list[Entry]) -> None:
        words = [word for word in command if isinstance(word, str)]
        if first == "load_env":
            self.variables.update(self.kept)
        elif (
            first in ("source", ".", "configfile") and len(words) > 1 and words[1].rstrip("\"'").endswith("/custom.cfg")
        ):
            self._run(commands_of(self.custom or ""), found, 1)
        elif first == "export":
            self.exported.update(words[1:])
        elif first in ("set", "") or "=" in first:
            name, equals, value = (words[1] if first == "set" and len(words) > 1 else first).partition("=")
            if equals:
                self.variables[self._text(name)] = self._text(value)
        elif first in ("menuentry", "submenu"):
            block = next((word for word in command if isinstance(word, Block)), None)
            if block is not None:
                found.append(self._entry(first, words[1:], block))

    def _entry(self, kind: str, words: list[str], block: Block) -> Entry:
        texts = [text for word in words if (text := self._text(word)) or '"' in word or "'" in word]
        title, name = "", ""
        place = 0
        while place < len(texts):
            text = texts[place]
            if text.startswith("--id="):
                name = text.partition("=")[2]
            elif text in ("--id", "--class", "--users", "--hotkey"):
                place += 1
                name = texts[place] if text == "--id" and place < len(texts) else name
            elif not text.startswith("--") and not title:
                title = text
            place += 1
        return Entry(title, name or title, block.commands, kind == "submenu")

    def _text(self, word: str) -> str:
        """A word with its quotes taken off and its variables filled in."""
        parts = []
        for piece in _PIECE.finditer(word):
            hard, escaped, soft = piece.group("hard"), piece.group("escaped"), piece.group("soft")
            if hard is not None or escaped is not None:
                parts.append(hard or escaped or "")
                continue
            text = piece.group("plain") if soft is None else re.sub(r"\\(.)", r"\1", soft)
            parts.append(_VARIABLE.sub(lambda found: self._value(found.group(1) or found.group(2)), text))
        return "".join(parts)

    def _value(self, name: str) -> str:
        return self.variables.get(name, "")

    def _holds(self, command: Command) -> bool | None:
        """Whether `[ … ]` or `true` holds; None for what only GRUB knows."""
        words = [word for word in command if isinstance(word, str)]
        if any(name in self.unknown for word in words for pair in _VARIABLE.findall(word) for name in pair):
            return None
        if words in (["true"], ["false"]):
            return words == ["true"]
        if words[:1] not in (["["], ["test"]):
            return None
        inner = words[1:-1] if words[0] == "[" else words[1:]
        texts = [self._text(word) for word in inner]
        if inner[:1] == ["-s"] and inner[-1:] and str(inner[-1]).endswith("grubenv"):
            return bool(self.kept)
        if inner[:1] == ["-f"] and inner[-1].rstrip("\"'").endswith("/custom.cfg"):
            return self.custom is not None
        if len(inner) == 1:
            return bool(texts[0])
        if len(inner) == 2 and inner[0] in ("-n", "-z"):
            return bool(texts[1]) == (inner[0] == "-n")
        if len(inner) == 3 and inner[1] in ("=", "==", "!=") and not re.search(r"grub_(platform|cpu)", "".join(inner)):
            return (texts[0] == texts[2]) == (inner[1] != "!=")
        return None
