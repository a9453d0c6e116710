"""What TuneD's plug-ins set, as settings of ours: one function for each plug-in, told one option at a time.

A function puts what it understands into `Taken`, and returns the reason where it has no counterpart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from tuneagent.facts.one_pass import Facts
from tuneagent.formats.kernel_line import split_line
from tuneagent.interop.tuned_file import Line
from tuneagent.tunables.dirty_pages import PAIRS
from tuneagent.tunables.kernel_files import ROWS, parse_value
from tuneagent.tunables.sysctl import is_allowed
from tuneagent.tunables.tables.sysctl_keys import ELSEWHERE

# `tune` of a profile: the settings of each tunable.
Tune = dict[str, dict[str, object]]
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"
_GOVERNORS = ("performance", "powersave", "schedutil", "ondemand", "conservative")
# Words of energy_perf_bias and their numbers (linux/arch/x86/kernel/cpu/intel_epb.c); TuneD knows both spellings.
_BIAS = {
    "performance": 0, "balance-performance": 4, "balance_performance": 4, "normal": 6, "balance-power": 8,
    "balance_power": 8, "powersave": 15, "power": 15,
}  # fmt: skip
_THP = "sys/kernel/mm/transparent_hugepage"
_KHUGEPAGED = {
    "defrag": "defrag", "pages_to_scan": "pagesToScan", "scan_sleep_millisecs": "scanSleepMilliseconds",
    "alloc_sleep_millisecs": "allocSleepMilliseconds", "max_ptes_none": "maxPtesNone",
}  # fmt: skip
RAISES = "TuneD only raises the value here (`>`), which has no counterpart"
LOWERS = "TuneD only lowers the value here (`<`), which has no counterpart"


class Taken(msgspec.Struct):
    """Settings that were taken over, and the line that each comes from."""

    facts: Facts
    tune: Tune = msgspec.field(default_factory=dict)
    origins: dict[tuple[str, str], Line] = msgspec.field(default_factory=dict)

    def put(self, tunable: str, key: str, value: object, line: Line) -> None:
        """Take one setting; a later one replaces an earlier one."""
        self.tune.setdefault(tunable, {})[key] = value
        self.origins[(tunable, key)] = line

    def drop(self, tunable: str, key: str) -> Line | None:
        """Give one back."""
        settings = self.tune.get(tunable, {})
        settings.pop(key, None)
        if not settings:
            self.tune.pop(tunable, None)
        return self.origins.pop((tunable, key), None)


class Option(msgspec.Struct, frozen=True):
    """One option of a unit, with its variables filled in."""

    line: Line
    value: str
    devices: str

    @property
    def key(self) -> str:
        """Its name."""
        return self.line.key


def _changes(value: str) -> str | None:
    """Why a value that TuneD only raises or lowers to has no counterpart; None for a plain one."""
    return None if len(value) < 2 else {">": RAISES, "<": LOWERS}.get(value[0])


def sysctl(option: Option, taken: Taken) -> str | None:
    """Kernel parameters. `>` becomes a minimum."""
    key = option.key.replace("/", ".") if "." not in option.key else option.key
    value = re.sub(r'^"(.*)"$', r"\1", option.value)
    if not value:
        return "no value"
    if value[0] == "<" and len(value) > 1:
        return LOWERS
    raises = value[0] == ">" and len(value) > 1
    value = value[1:].strip() if raises else value
    for pair, members in PAIRS.items():
        for member, name in members.items():
            if name == key:
                return RAISES if raises else _dirty(pair, member, value, option.line, taken)
    if key in ELSEWHERE:
        return f"belongs to the tunable {ELSEWHERE[key]}"
    if not is_allowed(key):
        return "not a key that a profile may set"
    number = int(value) if re.match(r"-?\d{1,18}\Z", value) else None
    if raises and number is None:
        return f"{value!r} is not a number, so it cannot be a minimum"
    taken.put("sysctl", key, {"min": number} if raises else value if number is None else number, option.line)
    return None


def _dirty(pair: str, member: str, value: str, line: Line, taken: Taken) -> str | None:
    if not value.isdigit():
        return f"{value!r} is not a number"
    if int(value) == 0:
        return "0 leaves the other member of the pair in force"
    names = {"ratio": "ratio", "bytes": "bytes"}
    if "background" in pair:
        names = {"ratio": "backgroundRatio", "bytes": "backgroundBytes"}
    for name in names.values():
        taken.drop("dirtyPages", name)
    taken.put("dirtyPages", names[member], int(value), line)
    return None


def vm(option: Option, taken: Taken) -> str | None:
    """Transparent huge pages and dirty limits."""
    if option.key in ("transparent_hugepages", "transparent_hugepage"):
        if option.value not in ("always", "never", "madvise"):
            return f"TuneD takes always, never or madvise, not {option.value!r}"
        taken.put("transparentHugepages", "enabled", option.value, option.line)
        return None
    if option.key == "transparent_hugepage.defrag":
        taken.put("transparentHugepages", "defrag", option.value, option.line)
        return None
    if option.key.startswith("dirty_"):
        renamed = msgspec.structs.replace(option, line=msgspec.structs.replace(option.line, key=f"vm.{option.key}"))
        why = sysctl(renamed, taken)
        _keep_origin(taken, renamed.line, option.line)
        return why
    return "no counterpart"


def _keep_origin(taken: Taken, renamed: Line, line: Line) -> None:
    for key, origin in taken.origins.items():
        if origin is renamed:
            taken.origins[key] = line


def _first_offered(value: str, offered_file: str, known: tuple[str, ...], taken: Taken) -> tuple[str, str | None]:
    """The first of several alternatives that the host offers, and why none can be chosen."""
    words = [word.strip() for word in value.split("|")]
    offered = taken.facts.host.files.read_or(f"{_CPUFREQ}/{offered_file}", "").split()
    if offered:
        found = next((word for word in words if word in offered), "")
        return found, None if found else f"this host offers {', '.join(offered)}, and not {value!r}"
    if len(words) > 1:
        return "", f"which of {value!r} this host offers is not known"
    return words[0], None if words[0] in known else f"{value!r} is not a known word"


def cpu(option: Option, taken: Taken) -> str | None:
    """Governor, preference, bias and turbo."""
    value, line = option.value, option.line
    if option.key == "governor":
        word, why = _first_offered(value, "scaling_available_governors", _GOVERNORS, taken)
        if why is None:
            taken.put("cpuGovernor", "governor", word, line)
        return why
    if option.key == "energy_performance_preference":
        known = ("default", "performance", "balance_performance", "balance_power", "power")
        word, why = _first_offered(value, "energy_performance_available_preferences", known, taken)
        if why is None:
            taken.put("cpuFrequency", "energyPreference", word, line)
        return why
    if option.key == "energy_perf_bias":
        word = value.partition("|")[0].strip()
        number = int(word) if word.isdigit() else _BIAS.get(word)
        if number is None:
            return f"{value!r} is not a known bias"
        taken.put("cpuEnergyBias", "bias", number, line)
        return None
    if option.key in ("no_turbo", "boost"):
        if value not in ("0", "1"):
            return f"{value!r} is neither 0 nor 1"
        taken.put("cpuFrequency", "boost", (value == "1") == (option.key == "boost"), line)
        return None
    if option.key == "force_latency":
        return "TuneD's daemon holds /dev/cpu_dma_latency open; `cpuIdle: {maxExitLatencyUs: N}` is the persistent way"
    if option.key == "min_perf_pct":
        return "only for intel_pstate; `cpuFrequency: {min: max}` is similar"
    return "no counterpart"


def sysfs(option: Option, taken: Taken) -> str | None:
    """Single files that some tunable of ours has."""
    path, value, line = option.key.strip("/"), option.value, option.line
    if why := _changes(value):
        return why
    for name, row in ROWS.items():
        if row.path == path:
            try:
                taken.put("kernelFiles", name, value if row.form == "choice" else parse_value(row, value), line)
            except ValueError as error:
                return str(error)
            return None
    if path in (f"{_THP}/enabled", f"{_THP}/defrag"):
        taken.put("transparentHugepages", path.rpartition("/")[2], value, line)
        return None
    if path.startswith(f"{_THP}/khugepaged/") and path.rpartition("/")[2] in _KHUGEPAGED:
        return _khugepaged(_KHUGEPAGED[path.rpartition("/")[2]], value, line, taken)
    switch = _SWITCHES.get(path)
    if switch is None:
        return "not a file that a profile may set"
    tunable, key, words = switch
    if value not in words:
        return f"{value!r} is not one of {', '.join(words)}"
    taken.put(tunable, key, words[value], line)
    return None


# File -> tunable, field, and what its words mean there.
_SWITCHES: Mapping[str, tuple[str, str, Mapping[str, bool]]] = {
    "sys/kernel/mm/ksm/run": ("ksm", "run", {"0": False, "1": True}),
    "sys/devices/system/cpu/smt/control": ("smt", "enabled", {"off": False, "on": True}),
    "sys/devices/system/cpu/intel_pstate/no_turbo": ("cpuFrequency", "boost", {"0": True, "1": False}),
    "sys/devices/system/cpu/cpufreq/boost": ("cpuFrequency", "boost", {"0": False, "1": True}),
}


def _khugepaged(field: str, value: str, line: Line, taken: Taken) -> str | None:
    if not value.isdigit():
        return f"{value!r} is not a number"
    known = taken.tune.get("transparentHugepages", {}).get("khugepaged")
    before = known if isinstance(known, dict) else {}
    taken.put("transparentHugepages", "khugepaged", {**before, field: int(value)}, line)
    return None


def _file(name: str) -> Callable[[Option, Taken], str | None]:
    """A row of kernelFiles; of several words the first."""

    def take(option: Option, taken: Taken) -> str | None:
        word = option.value.partition("|")[0].strip()
        if why := _changes(word):
            return why
        try:
            taken.put("kernelFiles", name, parse_value(ROWS[name], word), option.line)
        except ValueError:
            return f"{option.value!r} is not a value of {name}"
        return None

    return take


def modules(option: Option, taken: Taken) -> str | None:
    """Options of a kernel module; `+r`, that TuneD loads it anew, is not taken over."""
    words = option.value.split()
    given = [word.partition("=") for word in words if word != "+r"]
    if not given:
        return "loading a module anew has no counterpart"
    if any(not equals for _, equals, _ in given):
        return f"{option.value!r} holds an option without a value"
    for name, _, value in given:
        taken.put("moduleOptions", f"{option.key}.{name}", value, option.line)
    return None


def bootloader(option: Option, taken: Taken) -> str | None:
    """Arguments of the kernel line: added, or with `-` taken from those that came before."""
    if not option.key.startswith("cmdline"):
        return "no counterpart"
    removes = option.value.startswith("-")
    # A sign that belongs to the argument itself stands behind a backslash.
    words = split_line(re.sub(r"\A([+-]|\\(?=[\\+-]))", "", option.value))
    if not words:
        return "no argument"
    for word in words:
        name, equals, value = word.partition("=")
        if removes:
            if taken.tune.get("kernelArguments", {}).get(name) == (value.strip('"') if equals else True):
                taken.drop("kernelArguments", name)
        else:
            taken.put("kernelArguments", name, value.strip('"') if equals else True, option.line)
    return None


def service(option: Option, taken: Taken) -> str | None:
    """A unit that is to run, or not: now and at boot, which are one setting here."""
    name = option.key.removeprefix("service.")
    if name == option.key or not name:
        return "no counterpart"
    asked = set(re.split(r"\s*[,;]\s*", option.value))
    state = {frozenset(("start", "enable")): "running", frozenset(("stop", "disable")): "stopped"}.get(frozenset(asked))
    if state is None:
        return "running and starting at boot are one setting here: `start,enable` or `stop,disable`"
    taken.put("services", name.removesuffix(".service"), state, option.line)
    return None


def irqbalance(option: Option, taken: Taken) -> str | None:
    """CPUs that irqbalance keeps interrupts from."""
    if option.key != "banned_cpus":
        return "no counterpart"
    taken.put("irqbalance", "bannedCpus", option.value, option.line)
    return None


def disk(option: Option, taken: Taken) -> str | None:
    """Scheduler and read-ahead, of NVMe drives alone."""
    if not re.match(r"nvme\*\Z", option.devices.strip()):
        return f"only `devices=nvme*` has a counterpart, not {option.devices!r}"
    if why := _changes(option.value):
        return why
    if option.key == "elevator":
        taken.put("nvme", "scheduler", option.value.partition("|")[0].strip(), option.line)
        return None
    if option.key == "readahead":
        match = re.match(r"(\d{1,9})(\s+s.*)?\Z", option.value)
        if match is None:
            return f"{option.value!r} is not a size"
        size = int(match.group(1))
        taken.put("nvme", "readAheadKiB", size // 2 if match.group(2) else size, option.line)
        return None
    return "no counterpart"


def _only(key: str, take: Callable[[Option, Taken], str | None]) -> Callable[[Option, Taken], str | None]:
    return lambda option, taken: take(option, taken) if option.key == key else "no counterpart"


PLUGINS: Mapping[str, Callable[[Option, Taken], str | None]] = {
    "acpi": _only("platform_profile", _file("platformProfile")),
    "bootloader": bootloader,
    "cpu": cpu,
    "disk": disk,
    "irqbalance": irqbalance,
    "modules": modules,
    "scheduler": _only("sched_migration_cost_ns", _file("schedMigrationCost")),
    "selinux": _only("avc_cache_threshold", _file("selinuxCache")),
    "service": service,
    "sysctl": sysctl,
    "sysfs": sysfs,
    "vm": vm,
}
