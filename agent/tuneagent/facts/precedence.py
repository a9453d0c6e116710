"""Which file counts where several folders may hold one of that name: drop-ins, and units of systemd."""

from __future__ import annotations

from collections.abc import Iterable

from tuneagent.host.machine import Host

# Where systemd looks for units, the strongest first (systemd.unit(5), as systemd 252 is built for Debian).
UNIT_FOLDERS = (
    "etc/systemd/system.control", "etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system",
    "usr/lib/systemd/system", "lib/systemd/system",
)  # fmt: skip
# Those that a boot keeps: what stands below /run is gone by then.
KEPT_UNIT_FOLDERS = tuple(folder for folder in UNIT_FOLDERS if not folder.startswith("run/"))
# Those that this host's owner fills, not its packages.
LOCAL_UNIT_FOLDERS = tuple(folder for folder in KEPT_UNIT_FOLDERS if folder.startswith(("etc/", "usr/local/")))


def distinct(host: Host, folders: Iterable[str]) -> list[str]:
    """Folders without those that are another one of them: on most hosts /lib is /usr/lib. Raises ReadFailed."""
    found: dict[str, str] = {}
    for folder in folders:
        found.setdefault(host.files.resolved(folder) if host.files.is_dir(folder) else folder, folder)
    return list(found.values())


def by_precedence(host: Host, folders: Iterable[str], suffix: str = ".conf") -> list[str]:
    """Drop-ins in the order of their names; of one name in several folders the first folder's. Raises ReadFailed."""
    files: dict[str, str] = {}
    for folder in folders:
        for name in host.files.names(folder):
            if name.endswith(suffix):
                files.setdefault(name, f"{folder}/{name}")
    return [files[name] for name in sorted(files)]


def unit_file(host: Host, unit: str, folders: Iterable[str] = UNIT_FOLDERS) -> str | None:
    """The one file of a unit that counts."""
    return next((path for folder in folders if host.files.exists(path := f"{folder}/{unit}")), None)


def unit_files(host: Host, unit: str, folders: Iterable[str] = UNIT_FOLDERS) -> list[str]:
    """The file of a unit and its drop-ins, the later overriding the earlier. Raises ReadFailed."""
    places = tuple(folders)
    own = unit_file(host, unit, places)
    own_only = [f"{folder}/{unit}.d" for folder in places]
    if own is None:
        return by_precedence(host, own_only)
    # Those for all units of its kind, and for all whose names begin alike, give way to its own of the same name.
    stem, _, kind = unit.rpartition(".")
    parts = stem.split("-")
    alike = ["-".join(parts[:count]) + f"-.{kind}.d" for count in range(len(parts) - 1, 0, -1)]
    shared = [f"{folder}/{name}" for name in (*alike, f"{kind}.d") for folder in places]
    return [own, *by_precedence(host, [*own_only, *shared])]


def unit_text(host: Host, path: str) -> str:
    """Content of a unit's file or of a drop-in; a masked one says nothing. Raises ReadFailed."""
    return "" if host.files.is_mask(path) else host.files.read_or(path, "")
