"""Drop-ins of systemd: CPUs of slices, the ban list of irqbalance (systemd.unit(5))."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import KEPT_UNIT_FOLDERS, by_precedence, unit_text
from tuneagent.formats.systemd_unit import assigned
from tuneagent.persist.own_files import OwnFiles

OWN_NAME = "zz-tuneagent.conf"
SLICES = ("system.slice", "user.slice", "machine.slice", "init.scope")


class SliceDropIns(OwnFiles):
    """One file for each slice; an entry is the unit and its AllowedCPUs=."""

    path = f"etc/systemd/system/system.slice.d/{OWN_NAME}"
    files = tuple(f"etc/systemd/system/{unit}.d/{OWN_NAME}" for unit in SLICES)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """`AllowedCPUs=` in the section of the unit's kind; the empty one takes back what earlier files add up to."""
        return {
            f"etc/systemd/system/{unit}.d/{OWN_NAME}": f"[{unit.rpartition('.')[2].capitalize()}]\n"
            f"AllowedCPUs=\nAllowedCPUs={cpus}\n"
            for unit, cpus in entries.items()
        }

    def belongs(self, path: str, key: str) -> bool:
        """Each unit has a file of its own."""
        return f"/{key}.d/" in path


class IrqbalanceDropIn(OwnFiles):
    """Environment of irqbalance; an entry is a variable."""

    path = f"etc/systemd/system/irqbalance.service.d/{OWN_NAME}"
    # systemd takes drop-ins from names in .conf alone, so this one is ours to name there.
    variables = f"{path.removesuffix('.conf')}.env"
    files = (variables, path)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """A file of variables: those of the unit override `Environment=`, and a later file overrides them."""
        lines = "".join(f"{name}={value}\n" for name, value in sorted(entries.items()))
        return {self.variables: lines, self.path: f"[Service]\nEnvironmentFile=/{self.variables}\n"}

    def belongs(self, path: str, key: str) -> bool:
        """Variables are noted in the file that holds them."""
        return path == self.variables


def unit_cpus(facts: Facts, unit: str, name: str) -> tuple[str, str] | None:
    """CPUs that a unit's drop-ins add up to at the next boot, and the last file that says so. Raises ReadFailed.

    An empty assignment takes back what came before. None where no drop-in says anything.
    """
    found: list[str] = []
    last = None
    section = unit.rpartition(".")[2].capitalize()
    for path in by_precedence(facts.host, [f"{folder}/{unit}.d" for folder in KEPT_UNIT_FOLDERS]):
        for value in assigned(unit_text(facts.host, path), name, section):
            found = [*found, value] if value else []
            last = f"/{path}"
    return (",".join(found), last) if last is not None else None


def manager_settings(facts: Facts, name: str) -> list[tuple[str, str]]:
    """Values of a setting of systemd itself with their files, in the order in which the boot applies them.

    An empty assignment takes back what came before. Raises ReadFailed.
    """
    folders = [f"{base}/systemd/system.conf.d" for base in ("etc", "usr/local/lib", "usr/lib", "lib")]
    found: list[tuple[str, str]] = []
    for path in ["etc/systemd/system.conf", *by_precedence(facts.host, folders)]:
        for value in assigned(unit_text(facts.host, path), name, "Manager"):
            found = [*found, (value, f"/{path}")] if value else []
    return found


def reload_refusal(facts: Facts) -> str | None:
    """Why systemd may not be reloaded now: containers whose devices have no name in /dev/char would lose their GPUs.

    nvidia-container-toolkit issue 48.
    """
    files = facts.host.files
    if files.exists("dev/nvidiactl") and not files.exists("dev/char/195:255"):
        return "a reload of systemd could take the GPUs from containers: make the links of the check deviceLinks"
    return None
