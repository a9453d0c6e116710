"""modprobe.d: options of kernel modules, in force when the module is loaded next (modprobe.d(5))."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.formats.modprobe_d import config, values
from tuneagent.persist.own_files import OwnFiles

OWN_NAME = "zz-tuneagent.conf"
# Without those in /run, which a reboot empties.
FOLDERS = ("etc/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d")


class ModprobeD(OwnFiles):
    """Our file; an entry is `module.option`."""

    path = f"etc/modprobe.d/{OWN_NAME}"
    files = (path,)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """One `options` line for each option: modprobe adds them up."""
        lines = []
        for name, value in sorted(entries.items()):
            module, _, option = name.partition(".")
            lines.append(f"options {module} {option}={value}\n")
        return {self.path: "".join(lines)}


def options(facts: Facts) -> dict[str, tuple[str, str]]:
    """Value and file of each `module.option`, in the order in which modprobe hands them over. Raises ReadFailed.

    The module takes the last of several values.
    """

    def read() -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        loads: dict[str, str] = {}
        for path in by_precedence(facts.host, FOLDERS):
            text = "" if facts.host.files.is_mask(path) else facts.host.files.read_or(path, "")
            said = config(text)
            loads.update(said.loads)
            found.update({name: (value, f"/{path}") for name, value in values(said.options).items()})
        # A module that is loaded in place of another, as Debian's nvidia-current, has its options under its own name.
        return {name: given for name, given in found.items() if name.partition(".")[0] not in loads} | {
            f"{asked}.{name.partition('.')[2]}": given
            for asked, loaded in loads.items()
            for name, given in found.items()
            if name.partition(".")[0] == loaded
        }

    return facts.once("modprobe.d", read)
