"""A TuneD profile as a TuningProfile: sections sysctl, vm, cpu and sysfs, with includes and variables.

Line by line: what has a counterpart is taken over, what has none is listed with the reason. Nothing is run: TuneD's
functions (`${f:...}`) and scripts are among what has no counterpart. Format: tuned-profiles(7), tuned.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from tuneagent.errors import PathMissing, UsageError
from tuneagent.facts.conditions import metal
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.machine import Host
from tuneagent.tunables.dirty_pages import PAIRS
from tuneagent.tunables.kernel_files import ROWS, parse_value
from tuneagent.tunables.sysctl import ELSEWHERE, is_allowed

FOLDERS = ("etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles")
INCLUDE_LIMIT = 16
_SECTION = lazy_regex(r"\[([^\]]+)\]\s*\Z")
_OPTION = lazy_regex(r"([^=\s][^=]*?)\s*=\s*(.*)\Z")
_VARIABLE = lazy_regex(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VIRTUAL = lazy_regex(r"\$\{f:virt_check:([^:}]*):([^}]*)\}")
_GOVERNORS = ("performance", "powersave", "schedutil", "ondemand", "conservative")
_CONTROLS = ("type", "enabled", "replace", "priority", "devices", "uname_regex", "cpuinfo_regex", "drop")


class Line(msgspec.Struct, frozen=True):
    """One option as it stands in a file."""

    file: str
    number: int
    key: str
    value: str

    @property
    def text(self) -> str:
        """`key=value`."""
        return f"{self.key}={self.value}"


class Section(msgspec.Struct):
    """One section with the plug-in that it configures."""

    name: str
    lines: dict[str, Line] = msgspec.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The plug-in: `type=`, or the section's own name."""
        line = self.lines.get("type")
        return line.value if line else self.name

    def control(self, name: str) -> str:
        """Value of an option that is about the section itself."""
        line = self.lines.get(name)
        return line.value if line else ""


# `tune` of a profile: the settings of each tunable.
Tune = dict[str, dict[str, object]]


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
    found = _Profile(host)
    found.load(folder.strip("/"), ())
    result = Imported(folder.rstrip("/").rpartition("/")[2], found.summary, {}, found.left)
    for section in found.sections.values():
        _take(host, section, found.variables, result)
    return result


class _Profile:
    """Sections of a profile with all that it includes, the including one last."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sections: dict[str, Section] = {}
        self.variables: dict[str, str] = {}
        self.left: list[Left] = []
        self.summary = ""

    def load(self, folder: str, path: tuple[str, ...]) -> None:
        """Read one profile, first what it includes."""
        file = f"{folder}/tuned.conf"
        try:
            text = self.host.files.read(file)
        except PathMissing:
            raise UsageError(f"/{file}: no TuneD profile there") from None
        if file in path or len(path) >= INCLUDE_LIMIT:
            raise UsageError(f"/{file}: includes itself")
        own = _sections(text, f"/{file}")
        main = own.pop("main", Section("main"))
        virtual = metal(Facts(self.host)) is not None
        include = _VIRTUAL.sub(lambda match: match.group(1 if virtual else 2), main.control("include"))
        for name in re.split(r"[,;]", self._fill(include)):
            if name.strip():
                self.load(self._beside(folder, name.strip()), (*path, file))
        self.summary = main.control("summary") or self.summary
        variables = own.pop("variables", None)
        if variables is not None:
            self._variables(variables)
        for section in own.values():
            known = self.sections.get(section.name)
            if known is None or section.control("replace") in ("1", "true"):
                self.sections[section.name] = section
            else:
                known.lines.update(section.lines)

    def _beside(self, folder: str, name: str) -> str:
        for base in (folder.rpartition("/")[0], *FOLDERS):
            if self.host.files.exists(f"{base}/{name}/tuned.conf"):
                return f"{base}/{name}"
        raise UsageError(f"/{folder}/tuned.conf includes {name!r}, which does not exist")

    def _variables(self, section: Section) -> None:
        for line in section.lines.values():
            if line.key == "include":
                text = self.host.files.read_or(line.value.strip("/"), "")
                for other in _sections(f"[variables]\n{text}", line.value).get("variables", section).lines.values():
                    if other.key != "include":
                        self.variables[other.key] = other.value
            elif line.value != f"${{{line.key}}}":
                self.variables[line.key] = self._fill(line.value)

    def _fill(self, text: str) -> str:
        return _VARIABLE.sub(lambda match: self.variables.get(match.group(1), match.group(0)), text)


def _sections(text: str, file: str) -> dict[str, Section]:
    found: dict[str, Section] = {}
    current: Section | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped[0] in "#;":
            continue
        header = _SECTION.match(stripped)
        if header:
            current = found.setdefault(header.group(1), Section(header.group(1)))
            continue
        option = _OPTION.match(stripped)
        if current is not None and option:
            key = option.group(1).strip()
            current.lines[key] = Line(file, number, key, option.group(2))
    return found


def _take(host: Host, section: Section, variables: dict[str, str], result: Imported) -> None:
    lines = [line for key, line in section.lines.items() if key not in _CONTROLS]
    if section.control("enabled") in ("0", "false"):
        return
    reason = _not_here(host, section, variables)
    translate = _TRANSLATE.get(section.kind)
    for line in lines:
        value = _VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(0)), line.value)
        why: str | None = reason
        if why is None and "${" in value:
            why = "needs a function or variable of TuneD: " + re.findall(r"\$\{[^}]*\}", value)[0]
        if why is None:
            why = translate(line.key, value, result.tune) if translate else f"plug-in {section.kind} has no counterpart"
        if why is not None:
            result.left.append(Left(line, why))


def _not_here(host: Host, section: Section, variables: dict[str, str]) -> str | None:
    """Why a conditional section does not apply on this host."""
    arch = host.files.read_or("proc/sys/kernel/arch", "")
    for name, text in (("uname_regex", arch), ("cpuinfo_regex", host.files.read_or("proc/cpuinfo", ""))):
        pattern = _VARIABLE.sub(lambda match: variables.get(match.group(1), ""), section.control(name))
        try:
            if pattern and not re.search(pattern, text, re.MULTILINE):
                return f"not for this machine: {name}={pattern}"
        except re.error:
            return f"{name}={pattern} is not a pattern"
    return None


def _sysctl(key: str, value: str, tune: Tune) -> str | None:
    key = key.replace("/", ".") if "." not in key else key
    raise_only = value.startswith(">")
    value = value.lstrip(">=").strip().strip('"')
    for pair, members in PAIRS.items():
        for member, name in members.items():
            if name == key:
                return _dirty(pair, member, value, tune)
    if key in ELSEWHERE:
        return f"belongs to the tunable {ELSEWHERE[key]}"
    if not is_allowed(key):
        return "not a key that a profile may set"
    number = int(value) if re.match(r"-?\d{1,18}\Z", value) else None
    tune.setdefault("sysctl", {})[key] = {"min": number} if raise_only and number is not None else number or value
    if number == 0:
        tune["sysctl"][key] = 0
    return None


def _dirty(pair: str, member: str, value: str, tune: Tune) -> str | None:
    if not value.isdigit():
        return f"{value!r} is not a number"
    if int(value) == 0:
        return "0 leaves the other member of the pair in force"
    background = "background" in pair
    names = {("ratio", False): "ratio", ("bytes", False): "bytes",
             ("ratio", True): "backgroundRatio", ("bytes", True): "backgroundBytes"}  # fmt: skip
    spec = tune.setdefault("dirtyPages", {})
    for other in ("ratio", "bytes"):
        spec.pop(names[(other, background)], None)
    spec[names[(member, background)]] = int(value)
    return None


def _vm(key: str, value: str, tune: Tune) -> str | None:
    if key in ("transparent_hugepages", "transparent_hugepage"):
        tune.setdefault("transparentHugepages", {})["enabled"] = value
        return None
    if key == "transparent_hugepage.defrag":
        tune.setdefault("transparentHugepages", {})["defrag"] = value
        return None
    if key.startswith("dirty_"):
        return _sysctl(f"vm.{key}", value, tune)
    return "no counterpart"


def _cpu(key: str, value: str, tune: Tune) -> str | None:
    if key == "governor":
        for choice in value.split("|"):
            if choice.strip() in _GOVERNORS:
                tune["cpuGovernor"] = {"governor": choice.strip()}
                return None
        return f"{value!r} is not a known governor"
    if key == "no_turbo":
        tune.setdefault("cpuFrequency", {})["boost"] = value not in ("1", "true")
        return None
    if key == "energy_performance_preference":
        tune.setdefault("cpuFrequency", {})["energyPreference"] = value.split("|", maxsplit=1)[0]
        return None
    if key == "force_latency":
        return "TuneD's daemon holds /dev/cpu_dma_latency open; `cpuIdle: {maxExitLatencyUs: N}` is the persistent way"
    if key == "min_perf_pct":
        return "only for intel_pstate; `cpuFrequency: {min: max}` is similar"
    return "no counterpart"


def _sysfs(key: str, value: str, tune: Tune) -> str | None:
    path = key.strip("/")
    for name, row in ROWS.items():
        if row.path == path:
            try:
                tune.setdefault("kernelFiles", {})[name] = value if row.form == "choice" else parse_value(row, value)
            except ValueError as error:
                return str(error)
            return None
    if path == "sys/kernel/mm/ksm/run" and value in ("0", "1"):
        tune["ksm"] = {"run": value == "1"}
        return None
    return "not a file that a profile may set"


_TRANSLATE: dict[str, Callable[[str, str, Tune], str | None]] = {
    "sysctl": _sysctl,
    "vm": _vm,
    "cpu": _cpu,
    "sysfs": _sysfs,
}
