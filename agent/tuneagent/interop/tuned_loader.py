"""A TuneD profile with all that it includes, as TuneD itself would see it: units with their options, and variables.

An included profile comes first; where two have a unit of one name, the options of the later one are added to those of
the earlier. Each file is read once, so a profile may include the shipped one of its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from tuneagent.errors import PathMissing, UsageError
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.interop import tuned_functions
from tuneagent.interop.tuned_file import Line, parse, variables

# Where profiles lie; the first that has one of a name wins.
FOLDERS = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")
FILES_LIMIT = 64
_TRUE = ("True", "true", "1")
# Options of a unit that are about the unit itself.
_CONTROLS = (
    "type", "enabled", "replace", "drop", "devices", "devices_udev_regex", "cpuinfo_regex", "uname_regex", "script_pre",
    "script_post",
)  # fmt: skip
# Controls of an earlier unit that stay where the later one does not give them.
_KEPT = ("devices_udev_regex", "cpuinfo_regex", "uname_regex", "script_pre", "script_post")
_VARIABLE = lazy_regex(r"(?<!\\)\$\{(\w+)\}")
_ESCAPED = lazy_regex(r"\\(\$\{\w+\})")
_PROFILE_DIR = lazy_regex(r"(?<!\\)\$\{i:PROFILE_DIR\}")


class Unit(msgspec.Struct):
    """One section: the plug-in that it configures, and its options."""

    name: str
    controls: dict[str, str]
    lines: dict[str, Line]

    @property
    def plugin(self) -> str:
        """`type=`, or the unit's own name."""
        return self.controls.get("type", self.name)

    @property
    def is_enabled(self) -> bool:
        """Whether TuneD makes anything of it."""
        return self.controls.get("enabled", "1") in _TRUE

    @property
    def devices(self) -> str:
        """Which devices it is about."""
        return self.controls.get("devices", "*")


class Loaded(msgspec.Struct):
    """A profile as a whole. `not_included`: includes whose name a function would give that cannot be answered here."""

    summary: str
    units: dict[str, Unit]
    values: dict[str, str]
    not_included: list[Line]

    def expand(self, text: str, facts: Facts) -> str:
        """Text with variables and functions replaced; what is not known stays. Raises UsageError for an assertion."""
        return tuned_functions.expand(_filled(text, self.values), facts)


def load(facts: Facts, folder: str) -> Loaded:
    """The profile in a folder. Raises UsageError for one that TuneD would not load."""
    profiles: list[dict[str, dict[str, Line]]] = []
    not_included: list[Line] = []
    _load(facts, f"{folder.strip('/')}/tuned.conf", profiles, [], not_included)
    main: dict[str, Line] = {}
    units: dict[str, Unit] = {}
    for profile in profiles:
        main.update(profile.get("main", {}))
        for name, lines in profile.items():
            if name != "main":
                _merge(units, _unit(name, lines))
    found = Loaded(main["summary"].value if "summary" in main else "", units, {}, not_included)
    own = units.pop("variables", None)
    for key, line in own.lines.items() if own is not None else ():
        if key == "include":
            for other in _of_file(facts, line.value).values():
                _define(found, other.key, other.value, facts)
        else:
            _define(found, key, line.value, facts)
    for unit in units.values():
        for name in ("devices", "cpuinfo_regex", "uname_regex"):
            if name in unit.controls:
                unit.controls[name] = found.expand(unit.controls[name], facts)
    return found


def _load(
    facts: Facts, file: str, profiles: list[dict[str, dict[str, Line]]], read: list[str], not_included: list[Line]
) -> None:
    if len(read) >= FILES_LIMIT:
        raise UsageError(f"/{file}: more than {FILES_LIMIT} files are included")
    read.append(file)
    try:
        found = parse(facts.host.files.read(file), f"/{file}")
    except PathMissing:
        raise UsageError(f"/{file}: no TuneD profile there") from None
    folder = file.rpartition("/")[0]
    for lines in found.values():
        for key, line in lines.items():
            value = _PROFILE_DIR.sub(lambda _: f"/{folder}", line.value)
            lines[key] = msgspec.structs.replace(line, value=value)
    include = found.get("main", {}).pop("include", None)
    if include is not None:
        # Variables are not known yet: they are read when every profile is there.
        for name in re.split(r"\s*[,;]\s*", tuned_functions.expand(include.value, facts)):
            if "${f:" in name:
                not_included.append(msgspec.structs.replace(include, value=name))
                continue
            other = _located(facts, folder, name.strip(), file, read)
            if other:
                _load(facts, other, profiles, read, not_included)
    profiles.append(found)


def _located(facts: Facts, folder: str, name: str, file: str, read: list[str]) -> str:
    """The file of a profile that another one includes; empty for one that is read already, or may be missing."""
    may_be_missing, name = name.startswith("-"), name.removeprefix("-").rpartition("/")[2]
    is_read = False
    for base in dict.fromkeys((*FOLDERS, folder.rpartition("/")[0])):
        path = f"{base}/{name}/tuned.conf" if name else f"{base}/tuned.conf"
        if path in read:
            is_read = True
        elif facts.host.files.exists(path):
            return path
    if not is_read and not may_be_missing:
        raise UsageError(f"/{file} includes {name!r}, which does not exist")
    return ""


def _unit(name: str, lines: Mapping[str, Line]) -> Unit:
    controls = {key: line.value for key, line in lines.items() if key in _CONTROLS}
    return Unit(name, controls, {key: line for key, line in lines.items() if key not in _CONTROLS})


def _merge(units: dict[str, Unit], new: Unit) -> None:
    """Add a later unit to an earlier one of its name."""
    old = units.get(new.name)
    if old is None or new.controls.get("replace") in _TRUE:
        units[new.name] = new
        return
    old.controls = {key: value for key, value in old.controls.items() if key in _KEPT} | new.controls
    if "drop" in new.controls:
        for key in re.split(r"\b\s*[,;]\s*", new.controls["drop"]):
            old.lines.pop(key, None)
    old.lines.update(new.lines)


def _define(found: Loaded, name: str, value: str, facts: Facts) -> None:
    if re.match(r"\w+$", name):
        found.values[name] = found.expand(value, facts)


def _of_file(facts: Facts, path: str) -> dict[str, Line]:
    text = facts.host.files.read_or(path.strip("/"), "")
    try:
        return variables(text, path)
    except UsageError:
        return {}


def _filled(text: str, values: Mapping[str, str]) -> str:
    known = _VARIABLE.sub(lambda match: values.get(match.group(1), match.group(0)), text)
    return _ESCAPED.sub(r"\1", known)
