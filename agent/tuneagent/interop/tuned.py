"""A TuneD profile as a TuningProfile (tuned.conf(5), tuned-profiles(7)).

Line by line: what has a counterpart is taken over, what has none is listed with the reason. No program is run: what
needs one, scripts among it, has no counterpart. What our own rules would refuse is not taken over either.
"""

from __future__ import annotations

import re

import msgspec

from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.machine import Host
from tuneagent.interop.tuned_file import Line
from tuneagent.interop.tuned_loader import Loaded, Unit, load
from tuneagent.interop.tuned_plugins import PLUGINS, Option, Taken, Tune
from tuneagent.profile_files.document import convert_spec
from tuneagent.tunables.registry import registry

_OPEN = lazy_regex(r"\$\{[^}]*\}?")
# Options that say how TuneD goes about a unit, not what it sets.
_ABOUT_TUNED = ("priority", "load_threshold", "latency_low", "latency_high")


class Left(msgspec.Struct, frozen=True):
    """A line without a counterpart, and why."""

    line: Line
    reason: str


class Imported(msgspec.Struct):
    """The result of an import: `tune` of a TuningProfile, and the lines left over."""

    name: str
    summary: str
    tune: Tune
    left: list[Left]


def convert(host: Host, folder: str) -> Imported:
    """Import the profile in a folder of the host. Raises UsageError for a folder without one."""
    facts = Facts(host)
    found = load(facts, folder)
    taken = Taken(facts)
    left = [
        Left(line, "the name needs a function of TuneD that cannot be answered here") for line in found.not_included
    ]
    for unit in found.units.values():
        if unit.is_enabled:
            left += _take(unit, found, taken)
    left += _refused(taken)
    return Imported(folder.rstrip("/").rpartition("/")[2], found.summary, taken.tune, left)


def _take(unit: Unit, found: Loaded, taken: Taken) -> list[Left]:
    """Take one unit over; what is left of it."""
    elsewhere = _not_here(unit, taken.facts)
    plugin = PLUGINS.get(unit.plugin)
    left = []
    for key, line in unit.lines.items():
        if key in _ABOUT_TUNED:
            continue
        value = found.expand(line.value, taken.facts)
        why = elsewhere
        if why is None and (unknown := _OPEN.search(value)):
            why = f"needs a function or variable of TuneD: {unknown.group(0)}"
        if why is None and plugin is None:
            why = f"plug-in {unit.plugin} has no counterpart"
        if why is None and plugin is not None:
            why = plugin(Option(line, value, unit.devices), taken)
        if why is not None:
            left.append(Left(line, why))
    return left


def _not_here(unit: Unit, facts: Facts) -> str | None:
    """Why a conditional unit does not apply on this host."""
    read = facts.host.files.read_or
    names = ("ostype", "hostname", "osrelease", "version", "arch")
    uname = " ".join(read(f"proc/sys/kernel/{name}", "") for name in names)
    for name, text in (("uname_regex", uname), ("cpuinfo_regex", read("proc/cpuinfo", ""))):
        pattern = unit.controls.get(name)
        try:
            if pattern is not None and not re.search(pattern, text, re.MULTILINE):
                return f"not for this machine: {name}={pattern}"
        except re.error:
            return f"{name}={pattern} is not a pattern"
    return None


def _refused(taken: Taken) -> list[Left]:
    """Take out what the rules of the tunables refuse, with their reason: an import must pass `profile check`."""
    left = []
    for name, tunable in registry().items():
        while name in taken.tune:
            faults: list[str] = []
            spec = convert_spec(taken.tune[name], tunable.spec_type, name, faults)
            if spec is not None:
                faults += [f"{name}{fault}" for fault in tunable.check(spec)]
            if not faults:
                break
            path, _, told = faults[0].partition(": ")
            keys = sorted(taken.tune[name], key=len, reverse=True)
            wrong = next((key for key in keys if f"{path}.".startswith(f"{name}.{key}.")), None)
            for key in [wrong] if wrong is not None else keys:
                line = taken.drop(name, key)
                if line is not None:
                    left.append(Left(line, told or path))
    return left
