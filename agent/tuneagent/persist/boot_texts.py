"""Texts that a boot or a job of this host carries out: scripts, units, tables of tools, profiles of TuneD.

They are not followed as programs; `other_writers` asks what they name.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import KEPT_UNIT_FOLDERS, LOCAL_UNIT_FOLDERS, distinct
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.files import ELF
from tuneagent.persist.own_files import HEADER

_SCRIPTS = ("etc/rc.local", "etc/rc.d/rc.local")
_FILES = ("etc/crontab", "var/spool/cron/crontabs/root", "var/spool/cron/root", "etc/sysfs.conf")
_FOLDERS = (
    "etc/cron.d", "etc/cron.hourly", "etc/cron.daily", "etc/cron.weekly", "etc/cron.monthly", "etc/sysfs.d",
    "etc/cloud/cloud.cfg.d", "var/lib/cloud/scripts/per-boot",
)  # fmt: skip
_LEVELS = ("etc/rcS.d", "etc/rc2.d", "etc/rc3.d", "etc/rc4.d", "etc/rc5.d")
TUNED = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned", "var/lib/ocp-tuned/profiles")
_LIMIT = 32
_SCRIPT_LIMIT_BYTES = 256 * 1024
_INCLUDE = lazy_regex(r"^\s*include\s*=\s*(.+?)\s*$", re.MULTILINE)
_COMMENT = lazy_regex(r"^\s*[#;].*$", re.MULTILINE)
_WITHIN = lazy_regex(r"\\\n(?:[ \t]*[#;].*\n)+")
_EXEC = lazy_regex(r"^\s*Exec\w+\s*=(?:[^\\\n]|\\.|\\\n)*", re.MULTILINE)
# Settings of a container that a unit starts are the container's own.
_OF_CONTAINERS = lazy_regex(r"--sysctl[= ]\S+")
_LOADS = lazy_regex(r"\bsysctl\s+(?:-[a-zA-Z]*p|--load)[= ]?\s*(/[^\s;&|\"']+)")
CALLED = lazy_regex(r"(?<![\w./-])/(?!proc/|sys/|dev/|run/)[\w.+@-]+(?:/[\w.+@-]+)+")


class BootText(NamedTuple):
    """A file with what counts of it; None for one that cannot be read."""

    path: str
    text: str | None


def boot_texts(facts: Facts) -> list[BootText]:
    """All of them, once a pass. Raises ReadFailed for a folder that cannot be listed."""
    return facts.once("boot texts", lambda: list(_texts(facts)))


def called_scripts(facts: Facts) -> frozenset[str]:
    """Scripts that these call, and files that they load, wherever they lie. Raises ReadFailed."""
    boot_texts(facts)
    return frozenset(_called(facts))


def _called(facts: Facts) -> set[str]:
    return facts.once("called scripts", set[str])


def starts(facts: Facts, unit: str) -> bool:
    """Whether a link in a folder of a target or of another unit starts the unit at boot."""
    wanted = facts.once("wanted units", lambda: _wanted(facts))
    start, template, end = unit.partition("@.")
    return unit in wanted or any(one.startswith(f"{start}@") and one.endswith(f".{end}") for one in wanted if template)


def _wanted(facts: Facts) -> frozenset[str]:
    files = facts.host.files
    folders = [
        f"{base}/{name}"
        for base in LOCAL_UNIT_FOLDERS
        for name in files.names(base)
        if name.endswith((".wants", ".requires"))
    ]
    return frozenset(name for folder in folders for name in files.names(folder))


def _texts(facts: Facts) -> Iterator[BootText]:
    files = facts.host.files
    paths = [path for path in _SCRIPTS if _is_program(facts, path)]
    paths += [path for path in _FILES if files.exists(path)]
    paths += [f"{folder}/{name}" for folder in _FOLDERS for name in files.names(folder)]
    for path in (*paths, *_init_scripts(facts)):
        yield from _with_called(facts, path, lambda text: text)
    for path in _units(facts):
        yield from _with_called(facts, path, _commands)
    for path in _tuned(facts):
        yield from _with_called(facts, path, lambda text: text, follow=False)
    if re.search(r"^\s*ENABLED\s*=\s*yes", files.read_or("etc/ufw/ufw.conf", ""), re.MULTILINE):
        yield from _with_called(facts, "etc/ufw/sysctl.conf", lambda text: text, follow=False)


def _commands(text: str) -> str:
    """What a unit runs."""
    return "\n".join(_OF_CONTAINERS.sub("", found) for found in _EXEC.findall(text))


def _with_called(facts: Facts, path: str, counts: Callable[[str], str], *, follow: bool = True) -> Iterator[BootText]:
    """A file, and the scripts that it calls by their paths."""
    files = facts.host.files
    try:
        text = files.read_or(path, "")
    except ReadFailed:
        if not files.is_mask(path) and not files.is_dir(path):
            yield BootText(path, None)
        return
    if text.startswith(HEADER):
        return
    # To systemd a comment between lines that go on is not there.
    text = counts(_COMMENT.sub("", _WITHIN.sub(r"\\\n", text)))
    loaded = [_script(facts, other) for other in _LOADS.findall(text)]
    yield BootText(path, None if None in loaded else "\n".join([text, *(one for one in loaded if one)]))
    for called in dict.fromkeys(CALLED.findall(text)[:_LIMIT] if follow else ()):
        script = _script(facts, called)
        if script != "":
            yield BootText(called.lstrip("/"), script)


def _script(facts: Facts, path: str) -> str | None:
    """A script's text without its comments; empty for a program, or where there is none. None if it cannot be read."""
    name = path.lstrip("/")
    try:
        # Programs are large, scripts are not: most are told apart without being read.
        if not _is_small_file(facts, name):
            return ""
        data = facts.host.files.read_bytes(name)
    except PathMissing:
        return ""
    except ReadFailed:
        _called(facts).add(name)
        return None
    _called(facts).add(name)
    if data.startswith(ELF) or b"\0" in data:
        return ""
    try:
        return _COMMENT.sub("", data.decode().strip())
    except UnicodeDecodeError:
        # No script of a shell's is such.
        return ""


def _is_small_file(facts: Facts, name: str) -> bool:
    """Also what cannot be looked at, so that reading it says why."""
    try:
        found = facts.host.files.status(name)
    except ReadFailed:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_size <= _SCRIPT_LIMIT_BYTES


def _units(facts: Facts) -> Iterator[str]:
    """Services that a boot starts, with their drop-ins; one that only another unit could start counts too."""
    files = facts.host.files
    for folder in distinct(facts.host, KEPT_UNIT_FOLDERS):
        is_local = folder in LOCAL_UNIT_FOLDERS
        for name in files.names(folder):
            path = f"{folder}/{name}"
            if name.endswith(".service.d"):
                yield from (f"{path}/{one}" for one in files.names(path) if one.endswith(".conf") and is_local)
            elif name.endswith(".service") and _is_started(facts, path, name, is_local=is_local):
                yield path


def _is_started(facts: Facts, path: str, name: str, *, is_local: bool) -> bool:
    if starts(facts, name):
        return True
    try:
        return is_local and "[Install]" not in facts.host.files.read_or(path, "")
    except ReadFailed:
        return is_local


def _init_scripts(facts: Facts) -> Iterable[str]:
    """Scripts of System V that no unit stands in for."""
    files = facts.host.files
    names = {
        match.group(1) for level in _LEVELS for name in files.names(level) if (match := re.match(r"S\d\d(.+)", name))
    }
    units = {name.removesuffix(".service") for folder in KEPT_UNIT_FOLDERS if names for name in files.names(folder)}
    return [f"etc/init.d/{name}" for name in sorted(names - units)]


def _tuned(facts: Facts) -> list[str]:
    """Files of the profiles that TuneD applies at boot, those that they include among them."""
    files = facts.host.files
    openshift = TUNED[-1]
    found = [f"{openshift}/{name}/tuned.conf" for name in files.names(openshift)]
    if not starts(facts, "tuned.service"):
        return found
    waiting = files.read_or("etc/tuned/active_profile", "").split()
    while waiting and len(found) < _LIMIT:
        name = waiting.pop(0)
        places = [f"{folder}/{name}/tuned.conf" for folder in TUNED if re.match(r"[\w.-]{1,64}\Z", name)]
        path = next((place for place in places if files.exists(place)), None)
        if path is not None and path not in found:
            found.append(path)
            included = _INCLUDE.findall(files.read_or(path, ""))
            waiting += [one for line in included for one in re.split(r"[,;\s]+", line)]
    return found


def _is_program(facts: Facts, path: str) -> bool:
    try:
        return bool(facts.host.files.status(path).st_mode & 0o111)
    except (PathMissing, ReadFailed):
        return False
