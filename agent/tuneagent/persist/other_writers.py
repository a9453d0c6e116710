"""Other ways by which a host sets values when it boots: scripts, jobs, units and tables of other tools.

None of them is followed: a text that names a setting makes its next boot unknown, with the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.own_files import HEADER

# Shell scripts that a boot runs; jobs that run at boot or later; units and tables of settings written by hand.
_SCRIPTS = ("etc/rc.local", "etc/rc.d/rc.local")
_JOBS = ("etc/crontab", "var/spool/cron/crontabs/root", "var/spool/cron/root")
_JOB_FOLDERS = ("etc/cron.d",)
_UNIT_FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system")
_TABLES = ("etc/sysfs.conf",)
_TABLE_FOLDERS = ("etc/sysfs.d",)
# Tools with a configuration of their own: their unit, where they keep it, and what they set (the ends of paths).
_POWER = ("cpufreq/scaling_governor", "cpufreq/scaling_min_freq", "cpufreq/scaling_max_freq", "cpufreq/boost",
          "intel_pstate/no_turbo", "cpufreq/energy_performance_preference", "power/energy_perf_bias")  # fmt: skip
_TOOLS = (
    ("cpupower", ("etc/default/cpupower", "etc/sysconfig/cpupower", "etc/cpupower-service.conf"), _POWER),
    ("cpufrequtils", ("etc/default/cpufrequtils",), _POWER),
    (
        "tlp",
        ("etc/tlp.conf",),
        (*_POWER, "power/control", "parameters/policy", "kernel/nmi_watchdog", "queue/scheduler"),
    ),
    ("power-profiles-daemon", ("usr/libexec/power-profiles-daemon",), (*_POWER, "acpi/platform_profile")),
)
_WANTED = ("multi-user", "basic", "sysinit", "default", "graphical")
# Programs of scripts that set a value without naming its file, and options of TuneD that do.
_PROGRAMS = {
    "scaling_governor": ("cpupower", "cpufreq-set", "tuned-adm"),
    "read_ahead_kb": ("blockdev", "tuned-adm"),
    "nr_hugepages": ("hugeadm", "vm.nr_hugepages"),
    "smp_affinity": ("set_irq_affinity",),
    "smp_affinity_list": ("set_irq_affinity",),
}
_OPTIONS = {
    "scaling_governor": "governor",
    "read_ahead_kb": "readahead",
    "scheduler": "elevator",
    "enabled": "transparent_hugepages?",
    "energy_performance_preference": "energy_performance_preference",
    "energy_perf_bias": "energy_perf_bias",
    "no_turbo": "no_turbo",
    "boost": "boost",
}
_TUNED = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")
_TUNED_LIMIT = 32
_INCLUDE = lazy_regex(r"^\s*include\s*=\s*(.+?)\s*$", re.MULTILINE)
_LOADS = lazy_regex(r"\bsysctl\s+(?:-[a-zA-Z]*p|--load)[= ]?\s*(/[^\s;&|\"']+)")
_COMMENT = lazy_regex(r"^\s*[#;].*$", re.MULTILINE)


def doubt(facts: Facts, evidence: str, *, own: bool) -> str:
    """What may set the files that a setting was read from, and is not followed; empty where nothing does.

    With `own` a file of ours sets it at the next boot.
    """
    paths = [path.strip().lstrip("/") for path in evidence.split(",") if re.match(r"\s*/(proc|sys)/", path)]
    for path in paths:
        named = _named(path)
        for file, text in facts.once("other writers", lambda: _texts(facts)):
            if own and path.startswith("proc/sys/") and file.startswith(_TUNED) and _reapplies(facts):
                continue
            if text is None:
                return f"/{file} was not read"
            if named.search(text):
                return f"/{file} names it, and is not followed"
        for tool, file, ends in facts.once("tools that set power", lambda: list(_tools(facts))):
            if any(path.endswith(end) for end in ends):
                return f"{tool}, configured in /{file}, may set it, and is not followed"
    return ""


def _named(path: str) -> re.Pattern[str]:
    """How a text may name the file of a setting: its path, the end of it, or the key of sysctl."""
    parts = [re.sub(r"\d+", "*", part) if part.startswith(("cpu", "node", "nvme", "policy")) else part
             for part in path.split("/")]  # fmt: skip
    last = parts[-1]
    words = [re.escape("/".join(parts[-2:])).replace(r"\*", r"[^/\s]*")]
    # The name of the file may be a variable of the script.
    words += [re.escape(parts[-2]).replace(r"\*", r"[^/\s]*") + r"/[${*]\S*"] if path.startswith("sys/") else []
    if path.startswith("proc/sys/"):
        key = parts[2:]
        # An interface may be a variable of the script or a glob.
        middle = r"\S+" if "conf" in key[:-1] or "neigh" in key[:-1] else re.escape(key[-2])
        words += [rf"{re.escape(key[0])}[./](?:\S+[./])?{middle}[./]{re.escape(last)}" if len(key) > 2
                  else rf"{re.escape(key[0])}[./]{re.escape(last)}"]  # fmt: skip
    words += [re.escape(program) for program in _PROGRAMS.get(last, ())]
    words += [rf"^\s*{_OPTIONS[last]}(?=\s*=)"] if last in _OPTIONS else []
    return re.compile("|".join(rf"(?:{word})(?![\w-])" for word in words), re.MULTILINE)


def _texts(facts: Facts) -> list[tuple[str, str | None]]:
    """Files that a boot or a job carries out, without their comments; None for one that cannot be read."""
    files = facts.host.files
    paths = [path for path in _SCRIPTS if _is_program(facts, path)]
    paths += [path for path in (*_JOBS, *_TABLES) if files.exists(path)]
    paths += [f"{folder}/{name}" for folder in (*_JOB_FOLDERS, *_TABLE_FOLDERS) for name in files.names(folder)]
    paths += [
        f"{folder}/{name}" for folder in _UNIT_FOLDERS for name in files.names(folder) if name.endswith(".service")
    ]
    paths = [path for path in paths if not files.is_mask(path) and not files.is_dir(path)]
    found: list[tuple[str, str | None]] = []
    for path in (*paths, *_tuned(facts)):
        try:
            text = files.read_or(path, "")
            if text.startswith(HEADER):
                continue
            text = _COMMENT.sub("", text)
            loaded = [files.read_or(other.lstrip("/"), "") for other in _LOADS.findall(text)]
        except ReadFailed:
            found.append((path, None))
        else:
            found.append((path, "\n".join([text, *loaded])))
    return found


def _tuned(facts: Facts) -> list[str]:
    """Files of the profiles that TuneD applies at boot, those that they include among them."""
    files = facts.host.files
    if not any(files.exists(f"etc/systemd/system/{target}.target.wants/tuned.service") for target in _WANTED):
        return []
    found: list[str] = []
    waiting = files.read_or("etc/tuned/active_profile", "").split()
    while waiting and len(found) < _TUNED_LIMIT:
        name = waiting.pop(0)
        places = [f"{folder}/{name}/tuned.conf" for folder in _TUNED if re.match(r"[\w.-]{1,64}\Z", name)]
        path = next((place for place in places if files.exists(place)), None)
        if path is not None and path not in found:
            found.append(path)
            included = _INCLUDE.findall(files.read_or(path, ""))
            waiting += [one for line in included for one in re.split(r"[,;\s]+", line)]
    return found


def _reapplies(facts: Facts) -> bool:
    """Whether TuneD writes what /etc/sysctl.d says once more after its profile, as it does unless told not to."""
    text = facts.host.files.read_or("etc/tuned/tuned-main.conf", "")
    return not re.search(r"^\s*reapply_sysctl\s*=\s*(0|[Ff]alse|[Nn]o?)\s*$", text, re.MULTILINE)


def _is_program(facts: Facts, path: str) -> bool:
    try:
        return bool(facts.host.files.status(path).st_mode & 0o111)
    except (PathMissing, ReadFailed):
        return False


def _tools(facts: Facts) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Tools that a target starts, or that an init script of their name does."""
    exists = facts.host.files.exists
    for tool, places, ends in _TOOLS:
        wanted = any(exists(f"etc/systemd/system/{target}.target.wants/{tool}.service") for target in _WANTED)
        config = next(filter(exists, places), None)
        if config is not None and (wanted or exists(f"etc/init.d/{tool}")):
            yield tool, config, ends
