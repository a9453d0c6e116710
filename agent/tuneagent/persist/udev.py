"""udev rules: attributes of devices that are named anew at each boot, matched by their PCI address (udev(7))."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.values import Absent, Observation, Reading, Setting, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.persist.own_files import OwnFiles

OWN_NAME = "99-zz-tuneagent.rules"
FOLDERS = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
# Entry: subsystem, PCI address, kernel name as a pattern, attribute.
_KEY = lazy_regex(r"(block|pci|net)\|([0-9a-f:.]+)\|([a-z0-9*-]*)\|([a-z0-9_/-]+)\Z")


def key(subsystem: str, address: str, name: str, attribute: str) -> str:
    """Entry of one attribute."""
    return f"{subsystem}|{address}|{name}|{attribute}"


class UdevRules(OwnFiles):
    """Our rules file; it sorts last, so that its word is the last one."""

    path = f"etc/udev/rules.d/{OWN_NAME}"
    files = (path,)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """One rule for each attribute."""
        lines = []
        for name, value in sorted(entries.items()):
            match = _KEY.match(name)
            if match is None:
                raise ReadFailed(f"{name!r} is not an attribute of a device")
            subsystem, address, kernel, attribute = match.groups()
            place = f'KERNEL=="{address}"' if subsystem == "pci" else f'KERNEL=="{kernel}", KERNELS=="{address}"'
            lines.append(f'ACTION!="remove", SUBSYSTEM=="{subsystem}", {place}, ATTR{{{attribute}}}="{value}"\n')
        return {self.path: "".join(lines)}


def later_rule(facts: Facts, attribute: str) -> str | None:
    """A rules file of someone else that is read after ours and sets the attribute. Raises ReadFailed."""

    def read() -> dict[str, str]:
        found: dict[str, str] = {}
        for folder in FOLDERS:
            for name in facts.host.files.names(folder):
                if name > OWN_NAME and name.endswith(".rules"):
                    found.setdefault(name, f"{folder}/{name}")
        return {path: facts.host.files.read_or(path, "") for path in found.values()}

    for path, text in facts.once("late udev rules", read).items():
        if f"ATTR{{{attribute}}}=" in text:
            return f"/{path}"
    return None


def reading(facts: Facts, path: str, live: Observation, entry: str, convert: type[int] | type[str]) -> Reading:
    """A running value together with what our rule sets at the next boot."""
    drop_in = UdevRules()
    owner = None
    try:
        text = drop_in.entries(facts).get(entry)
        persisted: Observation = Absent("no rule of ours") if text is None else Value(convert(text))
        owner = later_rule(facts, entry.rpartition("|")[2])
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


def entry_of(entry: str, value: Setting) -> dict[str, str | None]:
    """The one entry of an attribute."""
    return {entry: str(value)}
