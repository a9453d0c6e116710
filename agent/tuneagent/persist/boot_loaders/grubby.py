"""Kernel arguments through grubby, on hosts with Boot Loader Specification entries (Fedora, RHEL and their kin).

grubby changes every entry in place, so what stood there before is noted in a file of ours, and given back from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats import kernel_line
from tuneagent.formats.kernel_line import split_line, values_of
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.folders import folder_impossible
from tuneagent.persist.own_files import HEADER, not_ours, noted, own_text, put, read_notes, take_away

ENTRIES = "boot/loader/entries"
_ENVIRONMENTS = ("boot/grub2/grubenv", "boot/grub/grubenv", "boot/efi/EFI/redhat/grubenv")
_PROGRAMS = ("usr/sbin/grubby", "usr/bin/grubby", "sbin/grubby")
_TIMEOUT_S = 120.0
_BEFORE = lazy_regex(r"^# before: (\S+) ?(.*)$", re.MULTILINE)


def is_there(facts: Facts) -> bool:
    """Whether this host keeps its boot entries so and has the program."""
    files = facts.host.files
    return files.is_dir(ENTRIES) and any(files.exists(path) for path in _PROGRAMS)


def next_line(facts: Facts) -> str:
    """Arguments of the entry that the next boot takes. Raises PathMissing or ReadFailed."""
    from tuneagent.formats.grub_cfg import environment

    kept: dict[str, str] = {}
    for path in _ENVIRONMENTS:
        kept |= environment(facts.host.files.read_or(path, ""))
    names = [name for name in facts.host.files.names(ENTRIES) if name.endswith(".conf") and "rescue" not in name]
    if not names:
        raise PathMissing(f"no boot entry in /{ENTRIES}")
    chosen = _chosen(sorted(names, key=_version, reverse=True), _default(facts, kept))
    match = re.search(r"^options\s+(.*)$", facts.host.files.read(f"{ENTRIES}/{chosen}"), re.MULTILINE)
    if match is None:
        raise ReadFailed(f"/{ENTRIES}/{chosen}: no line `options`")
    return re.sub(r"\$\{?(\w+)\}?", lambda found: kept.get(found.group(1), ""), match.group(1)).strip()


def _default(facts: Facts, kept: Mapping[str, str]) -> str:
    """What names the entry: once the next one, else what grub.cfg says, which by itself is the saved one."""
    if kept.get("next_entry"):
        return kept["next_entry"]
    for path in ("boot/grub2/grub.cfg", "boot/grub/grub.cfg"):
        given = re.findall(r"^\s*set default=\"?([^\"\n]*?)\"?\s*$", facts.host.files.read_or(path, ""), re.MULTILINE)
        if given and not any("saved_entry" in one for one in given):
            return str(given[-1])
    return kept.get("saved_entry", "")


def _chosen(names: list[str], default: str) -> str:
    """An entry by its name or its place among all, the newest first; the newest where nothing names one."""
    if f"{default}.conf" in names:
        return f"{default}.conf"
    return names[int(default)] if default.isdigit() and int(default) < len(names) else names[0]


def _version(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts as rpm does: numbers above letters, `~` below the end, and the end below the rest."""
    parts = re.findall(r"\d+|[a-zA-Z]+|~", name.removesuffix(".conf").partition("-")[2])
    keys = [(3, int(part), "") if part.isdigit() else (0, 0, "") if part == "~" else (2, 0, part) for part in parts]
    return [*keys, (1, 0, "")]


class GrubbyRecord:
    """Our note of what grubby was told and what stood there before."""

    rank = 10
    path = "etc/tuneagent/kernel-arguments"
    files = (path,)
    generates = True

    def is_there(self, facts: Facts) -> bool:
        """Entries of the specification, and the program."""
        return is_there(facts)

    def next_line(self, facts: Facts) -> str:
        """That of the entry which the next boot takes."""
        return next_line(facts)

    def unsafe(self, facts: Facts, name: str) -> str | None:
        """What stood there could not be given back as it was."""
        return unsafe(facts, name)

    def by_hand(self, words: str) -> str | None:
        """grubby itself."""
        return f"grubby --update-kernel=ALL --args='{words}'"

    def impossible(self, facts: Facts) -> str | None:
        """Why the arguments would not reach the next boot."""
        return facts.once("impossible etc", lambda: not_ours(facts, self.files) or folder_impossible(facts.host, "etc"))

    def entries(self, facts: Facts) -> dict[str, str]:
        """Arguments that are ours: name to the words that it has."""
        return read_notes(own_text(facts, self.path))

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """What is generated from our file may lag behind it after a crash: then equal entries prove nothing."""
        del facts, entries
        return False

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Note, let grubby change every entry, and give back what is no longer ours. Raises WriteFailed."""
        text = facts.host.files.read_or(self.path, "")
        before = {match.group(1): match.group(2) for match in _BEFORE.finditer(text)}
        given_back = {name: words for name, words in before.items() if name not in entries}
        line = next_line(facts)
        for name in entries:
            before.setdefault(name, " ".join(_words(line, name)))
        kept = "".join(f"# before: {name} {before[name]}".rstrip() + "\n" for name in sorted(entries))
        # The note of what was there is on disk before it is lost.
        all_before = "".join(f"# before: {name} {words}".rstrip() + "\n" for name, words in sorted(before.items()))
        put(facts, self.path, HEADER + noted(entries) + all_before)
        for name, words in {**given_back, **entries}.items():
            if _words(line, name) != split_line(words):
                _grubby(facts, name, words)
        if entries:
            put(facts, self.path, HEADER + noted(entries) + kept)
        else:
            take_away(facts, self.path)


def unsafe(facts: Facts, name: str) -> str | None:
    """Why grubby is not asked to change this argument: what stood there could not be given back as it was."""
    if name in ("hugepages", "hugepagesz", "default_hugepagesz"):
        return "grubby does not keep the order of a size and its count"
    seen = set()
    for file in facts.host.files.names(ENTRIES):
        if file.endswith(".conf") and "rescue" not in file:
            match = re.search(r"^options\s+(.*)$", facts.host.files.read(f"{ENTRIES}/{file}"), re.MULTILINE)
            written = kernel_line.words(match.group(1)) if match else []
            seen.add(tuple(word for word in written if word.strip('"').partition("=")[0] == name))
    if len(seen) > 1:
        return f"boot entries differ in {name}"
    if any('"' in word for found in seen for word in found):
        return f"{name} is quoted in the boot entries"
    return None


def _words(line: str, name: str) -> list[str]:
    return [name if value is True else f"{name}={value}" for value in values_of(line, name)]


def _grubby(facts: Facts, name: str, words: str) -> None:
    argv = ["grubby", "--update-kernel=ALL", f"--remove-args={name}"]
    argv += [f"--args={words}"] if words else []
    facts.order(argv, _TIMEOUT_S)


LOADER = GrubbyRecord()
