"""Other ways by which a host sets values when it boots: scripts, jobs, units and tables of other tools.

None of them is followed: a text that names a setting makes its next boot unknown, with the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.boot_texts import TUNED, boot_texts, starts

# Tools with rules of their own: their unit or init script, where they keep them, and what they set (the ends of paths).
_POWER = ("cpufreq/scaling_governor", "cpufreq/scaling_min_freq", "cpufreq/scaling_max_freq", "cpufreq/boost",
          "intel_pstate/no_turbo", "cpufreq/energy_performance_preference", "power/energy_perf_bias")  # fmt: skip
_DEVICES = ("power/control", "parameters/policy", "kernel/nmi_watchdog", "vm/dirty_writeback_centisecs")
_TOOLS = (
    ("cpupower", ("etc/default/cpupower", "etc/sysconfig/cpupower", "etc/cpupower-service.conf"), _POWER),
    ("cpufrequtils", ("etc/default/cpufrequtils", "etc/init.d/cpufrequtils"), _POWER),
    ("tlp", ("etc/tlp.conf",), (*_POWER, *_DEVICES, "queue/scheduler")),
    ("power-profiles-daemon", (), (*_POWER, "acpi/platform_profile")),
    ("powertop", (), (*_DEVICES, "queue/scheduler", "queue/read_ahead_kb")),
    ("ksm", (), ("mm/ksm/run",)),
    ("ksmtuned", (), ("mm/ksm/run", "mm/ksm/pages_to_scan", "mm/ksm/sleep_millisecs")),
)  # fmt: skip
# Names with numbers that a script may have in a variable.
_NUMBERED = lazy_regex(r"((?:cpu|node|nvme|policy)[^\d]*)\d.*")
# How a script names a file of a folder by a variable or a glob.
_VARIABLES = tuple(f"{separator}{mark}" for separator in "./" for mark in "${*")
# Programs of scripts that set a value without naming its file, and options of TuneD that do.
PROGRAMS = {
    "scaling_governor": ("cpupower", "cpufreq-set", "tuned-adm"),
    "read_ahead_kb": ("blockdev", "hdparm", "tuned-adm"),
    "nr_hugepages": ("hugeadm", "vm.nr_hugepages", "nr_hugepages"),
    "smp_affinity": ("set_irq_affinity",),
    "smp_affinity_list": ("set_irq_affinity",),
}
OPTIONS = {
    "scaling_governor": "governor",
    "read_ahead_kb": "readahead",
    "scheduler": "elevator",
    "enabled": "transparent_hugepages?",
    "energy_performance_preference": "energy_performance_preference",
    "energy_perf_bias": "energy_perf_bias",
    "no_turbo": "no_turbo",
    "boost": "boost",
    "platform_profile": "platform_profile",
}


def doubt(facts: Facts, evidence: str, *, own: bool) -> str:
    """What may set the files that a setting was read from, and is not followed; empty where nothing does.

    With `own` a file of ours sets it at the next boot.
    """
    paths = [path.strip().lstrip("/") for path in evidence.split(",") if re.match(r"\s*/(proc/(sys|irq)|sys)/", path)]
    texts = boot_texts(facts)
    for path in paths:
        words = [word for word in _words_for(path) if _is_said(facts, word)]
        for file, text in texts:
            if own and path.startswith("proc/sys/") and file.startswith(TUNED) and _reapplies(facts):
                continue
            if text is None:
                return f"/{file} cannot be read"
            # The expression is built for the few texts that have one of its words at all.
            if any(word in text for word in words) and re.search(_named(path), text, re.MULTILINE):
                return f"/{file} mentions it and may change it"
        for tool, places, ends in _TOOLS:
            if any(path.endswith(end) for end in ends) and (config := _is_there(facts, tool, places)) is not None:
                return f"{tool}{config} may change it at boot"
    return ""


def namer(evidence: Iterable[str]) -> Callable[[str], list[str]]:
    """What a line says of the settings that were read from these files, in words by which they are found again."""
    paths = {path.strip().lstrip("/") for one in evidence for path in one.split(",")}
    asked = [(_words_for(path), path) for path in sorted(paths) if re.match(r"(proc/(sys|irq)|sys)/", path)]

    def said(line: str) -> list[str]:
        found = [path for words, path in asked if any(word in line for word in words) and re.search(_named(path), line)]
        return list(dict.fromkeys("/".join(path.split("/")[-2:]) for path in found))

    return said


def _is_said(facts: Facts, word: str) -> bool:
    """Whether any text has the word; settings of one folder ask for the same ones."""
    whole = facts.once("boot texts in one", lambda: "\n".join(text or "" for _, text in boot_texts(facts)))
    return facts.once(f"said {word}", lambda: word in whole)


def _words_for(path: str) -> list[str]:
    """Texts of which one is in everything that `_named` finds. A number may be a variable there."""
    above, last = path.split("/")[-2:]
    stem = _NUMBERED.sub(r"\1", above)
    words = [_NUMBERED.sub(r"\1", last), *PROGRAMS.get(last, ())]
    words += [stem] if stem != above else [f"{above}{mark}" for mark in _VARIABLES]
    return words + ([OPTIONS[last].rstrip("s?")] if last in OPTIONS else [])


def _named(path: str) -> str:
    """How a text may name the file of a setting: its path, the end of it, or the key of sysctl."""
    parts = [re.sub(r"\d+", "*", part) if _NUMBERED.match(part) else part for part in path.split("/")]
    last = parts[-1]
    words = [re.escape("/".join(parts[-2:])).replace(r"\*", r"[^/\s]*")]
    # The name of the file may be a variable of the script.
    words += [re.escape(parts[-2]).replace(r"\*", r"[^/\s]*") + r"[./][${*]\S*"]
    # CPUs share the files of their policy.
    words += [rf"policy[^/\s]*/{re.escape(last)}"] if "/cpufreq/" in path else []
    if path.startswith("proc/sys/"):
        key = parts[2:]
        # An interface may be a variable of the script or a glob.
        middle = r"\S+" if "conf" in key[:-1] or "neigh" in key[:-1] else re.escape(key[-2])
        words += [rf"{re.escape(key[0])}[./](?:\S+[./])?{middle}[./]{re.escape(last)}" if len(key) > 2
                  else rf"{re.escape(key[0])}[./]{re.escape(last)}"]  # fmt: skip
    words += [re.escape(program) for program in PROGRAMS.get(last, ())]
    words += [rf"^\s*{OPTIONS[last]}(?=\s*=)"] if last in OPTIONS else []
    return "|".join(rf"(?:{word})(?![\w-])" for word in words)


def _reapplies(facts: Facts) -> bool:
    """Whether TuneD writes what /etc/sysctl.d says once more after its profile, as it does unless told not to."""
    text = facts.host.files.read_or("etc/tuned/tuned-main.conf", "")
    return not re.search(r"^\s*reapply_sysctl\s*=\s*(0|[Ff]alse|[Nn]o?)\s*$", text, re.MULTILINE)


def _is_there(facts: Facts, tool: str, places: tuple[str, ...]) -> str | None:
    """Where a tool that a boot starts is configured, in words; None where none starts."""
    exists = facts.host.files.exists
    if not starts(facts, f"{tool}.service") and not exists(f"etc/init.d/{tool}"):
        return None
    found = next(filter(exists, places), None)
    return f", configured in /{found}," if found is not None else ""
