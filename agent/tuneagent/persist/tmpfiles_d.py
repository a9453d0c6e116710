"""tmpfiles.d `w` lines: sysfs values written early in each boot (tmpfiles.d(5))."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuneagent.contracts.values import Absent, Observation, Reading, Setting, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.tmpfiles_d import Line, parse
from tuneagent.host.machine import Host
from tuneagent.persist.folders import folder_impossible
from tuneagent.persist.own_files import HEADER, not_ours, own_text, put, take_away

# Without those in /run, which a reboot empties.
FOLDERS = ("etc/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d")
_POLICIES = "sys/devices/system/cpu/cpufreq"
_OF_CPU = lazy_regex(r"sys/devices/system/cpu/cpu(\d+)/cpufreq/(\w+)\Z")
# The first line for a path wins, in the order of file names: ours must sort before everything.
OWN_NAME = "00-00-tuneagent.conf"


def lines(host: Host) -> list[Line]:
    """All `w` lines in the order of file names. Raises ReadFailed."""
    found: list[Line] = []
    for path in by_precedence(host, FOLDERS):
        try:
            found += parse(host.files.read(path), "/" + path)
        except PathMissing:
            continue
        except ReadFailed:
            if not host.files.is_mask(path):
                raise
    return found


def winner(facts: Facts, path: str) -> Line | None:
    """The line whose text the file has after boot. Raises ReadFailed.

    systemd-tmpfiles carries out paths in the order in which they are first named, globs among them; so of all that
    cover the file the last one counts. A second line for the same path is refused, unless it says the same or both
    append.
    """
    known = facts.once("tmpfiles.d", lambda: effective(lines(facts.host)))
    return next((line for line in reversed(known) if line.covers(path)), None)


def policy_line(facts: Facts, path: str) -> Line | None:
    """A line for files of CPU frequency policies: `cpuN/cpufreq` is a link to one of them. Raises ReadFailed."""
    match = _OF_CPU.match(path)
    if match is None:
        return None
    policies = facts.host.files.names(_POLICIES) or [f"policy{match.group(1)}"]
    found = (winner(facts, f"{_POLICIES}/{name}/{match.group(2)}") for name in policies if name.startswith("policy"))
    return next((line for line in found if line is not None), None)


def effective(known: list[Line]) -> list[Line]:
    """Lines in the order in which they are carried out, without those that are refused."""
    by_path: dict[str, list[Line]] = {}
    for line in known:
        earlier = by_path.setdefault(line.path, [])
        if all(_say_the_same(one, line) or (one.appends and line.appends) for one in earlier):
            earlier.append(line)
    return [line for same in by_path.values() for line in same]


def _say_the_same(one: Line, other: Line) -> bool:
    return (one.value, one.owned) == (other.value, other.owned)


class TmpfilesD:
    """Our file in /etc/tmpfiles.d."""

    path = f"etc/tmpfiles.d/{OWN_NAME}"
    files = (path,)
    generates = False

    def impossible(self, facts: Facts) -> str | None:
        """Why the file would not survive a reboot."""
        return facts.once(
            "impossible etc/tmpfiles.d",
            lambda: not_ours(facts, self.files) or folder_impossible(facts.host, "etc/tmpfiles.d"),
        )

    def entries(self, facts: Facts) -> dict[str, str]:
        """Paths that our file writes."""
        return {line.path: line.value for line in parse(own_text(facts, self.path)) if line.value is not None}

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """Our one file holds these, or is not there where there are none."""
        return self.entries(facts) == entries and (bool(entries) or not facts.host.files.exists(self.path))

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace or remove our file."""
        if not entries:
            take_away(facts, self.path)
            return
        body = "".join(f"w /{path} - - - - {value}\n" for path, value in sorted(entries.items()))
        put(facts, self.path, HEADER + body)


def reading(
    facts: Facts,
    path: str,
    live: Observation,
    convert: Callable[[str], Setting] = str,
    default: Observation | None = None,
) -> Reading:
    """A running value together with what tmpfiles.d writes at the next boot.

    `default` is what the kernel starts with where no line writes the file; `convert` makes a line's argument
    comparable with the running value and raises ValueError for nonsense.
    """
    drop_in = TmpfilesD()
    owner, own, doubt = None, False, ""
    try:
        line = winner(facts, path)
        policy = policy_line(facts, path)
        if policy is not None:
            doubt = f"{policy.file} writes the same file through its cpufreq policy"
        if line is None:
            persisted: Observation = default or Absent("no tmpfiles.d line")
        else:
            if line.value is None:
                raise ReadFailed(f"{line.file}: what it writes to /{path} depends on a specifier")
            persisted = Value(convert(line.value))
            wins = line.path != path or line.appends or line.file.rpartition("/")[2] < OWN_NAME
            own = line.file == f"/{drop_in.path}"
            owner = line.file if wins and not own else None
    except (ReadFailed, ValueError) as error:
        persisted = Unreadable(str(error))
    return Reading(
        live,
        evidence=f"/{path}",
        persisted=persisted,
        mechanism=drop_in.path,
        impossible=drop_in.impossible(facts),
        owner=owner,
        own=own,
        doubt=doubt,
    )
