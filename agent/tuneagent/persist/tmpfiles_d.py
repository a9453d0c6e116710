"""tmpfiles.d `w` lines: sysfs values written early in each boot (tmpfiles.d(5))."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host import Host
from tuneagent.model import Absent, Observation, Reading, Setting, Unreadable, Value
from tuneagent.persist import HEADER, folder_impossible
from tuneagent.tunable import Facts

FOLDERS = ("etc/tmpfiles.d", "run/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d")
OWN_NAME = "zz-tuneagent.conf"


def parse(text: str) -> dict[str, str]:
    """Path to argument of the `w` lines of one file; wanted paths have no wildcard."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) == 7 and fields[0].rstrip("!-+") == "w":
            found[fields[1].lstrip("/")] = fields[6].strip()
    return found


def winners(host: Host) -> dict[str, tuple[str, str]]:
    """Path to (value, file) that the boot writes last. Raises ReadFailed."""
    files: dict[str, str] = {}
    for folder in FOLDERS:
        for name in host.files.names(folder):
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    found: dict[str, tuple[str, str]] = {}
    for name in sorted(files):
        try:
            text = host.files.read(files[name])
        except PathMissing:
            continue
        for path, value in parse(text).items():
            found[path] = (value, "/" + files[name])
    return found


class TmpfilesD:
    """Our file in /etc/tmpfiles.d."""

    path = f"etc/tmpfiles.d/{OWN_NAME}"

    def impossible(self, facts: Facts) -> str | None:
        """Why the file would not survive a reboot."""
        return folder_impossible(facts.host, "etc/tmpfiles.d")

    def entries(self, facts: Facts) -> dict[str, str]:
        """Paths that our file writes."""
        return parse(facts.host.files.read_or(self.path, ""))

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Replace or remove our file."""
        if not entries:
            facts.host.files.remove(self.path)
            return
        body = "".join(f"w /{path} - - - - {value}\n" for path, value in sorted(entries.items()))
        facts.host.files.replace(self.path, (HEADER + body).encode())


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
    owner = None
    try:
        winner = winners(facts.host).get(path)
        if winner is None:
            persisted: Observation = default or Absent("no tmpfiles.d line")
        else:
            persisted = Value(convert(winner[0]))
            # Lines of a file whose name sorts after ours are written after ours.
            owner = winner[1] if winner[1].rpartition("/")[2] > OWN_NAME else None
    except (ReadFailed, ValueError) as error:
        persisted = Unreadable(str(error))
    return Reading(
        live,
        evidence=f"/{path}",
        persisted=persisted,
        mechanism=drop_in.path,
        impossible=drop_in.impossible(facts),
        owner=owner,
    )
