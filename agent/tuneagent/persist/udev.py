"""udev rules: attributes of devices that are named anew at each boot, matched by their PCI address (udev(7))."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tuneagent.contracts.values import Absent, Observation, Reading, Setting, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.udev_rules import Device, Named, Rule, Written, of_attribute, parse, written
from tuneagent.persist.own_files import OwnFiles
from tuneagent.persist.tmpfiles_d import winner

OWN_NAME = "99-zz-tuneagent.rules"
# Without those in /run, which a reboot empties.
FOLDERS = tuple(f"{base}/udev/rules.d" for base in ("etc", "usr/local/lib", "usr/lib", "lib"))
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


def reading(facts: Facts, path: str, live: Observation, entry: str, convert: type[int] | type[str]) -> Reading:
    """A running value together with what rules set at the next boot, ours and those of others."""
    drop_in = UdevRules()
    owner, own, doubt = None, False, ""
    try:
        found = at_boot(facts, path, entry)
        persisted: Observation = Absent("no rule sets it") if found.text is None else Value(convert(found.text))
        own = found.place.startswith(f"/{drop_in.path}:")
        line = winner(facts, path)
        doubt = f"{line.file} also writes it, and may do so before or after udev" if line is not None else found.doubt
        if not own and found.place.rpartition("/")[2] > OWN_NAME:
            owner = found.place
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


def at_boot(facts: Facts, path: str, entry: str) -> Written:
    """What all rules together make of an attribute when its device is added. Raises ReadFailed."""
    match = _KEY.match(entry)
    if match is None:
        raise ReadFailed(f"{entry!r} is not an attribute of a device")
    subsystem, address, _, attribute = match.groups()
    name = {"pci": address, "block": path.removeprefix("sys/block/"), "net": path.removeprefix("sys/class/net/")}
    device = f"{subsystem}/{name[subsystem].partition('/')[0]}"
    found = facts.once(f"udev of {device}", lambda: written(_rules(facts), _device(facts, device, address)))
    return of_attribute(found, attribute)


def _rules(facts: Facts) -> list[list[Rule]]:
    def read() -> list[list[Rule]]:
        return [parse(_text(facts, path), f"/{path}") for path in by_precedence(facts.host, FOLDERS, ".rules")]

    return facts.once("udev rules", read)


def _text(facts: Facts, path: str) -> str:
    """A file of rules; a masked one has none. Raises ReadFailed."""
    try:
        return facts.host.files.read_or(path, "")
    except ReadFailed:
        if facts.host.files.is_mask(path):
            return ""
        raise


def _device(facts: Facts, device: str, address: str) -> Device:
    """The device with the parents that are known: the controller of a drive, the PCI device, bridges without a name."""
    subsystem, _, name = device.partition("/")
    folder = f"sys/block/{name}" if subsystem == "block" else f"sys/class/net/{name}"
    pci = Named(address, "pci", None, _attributes(facts, f"sys/bus/pci/devices/{address}"))
    unknown = Unreadable("the bridges above a device are not followed")
    # A bridge is none of the devices that rules of ours name.
    bridge = Named(None, "pci", None, lambda _: unknown, _endpoints(facts))
    chain = [pci, bridge]
    if subsystem != "pci":
        chain.insert(0, Named(name, subsystem, "", _attributes(facts, folder)))
    controller = re.sub(r"n\d+\Z", "", name) if subsystem == "block" else ""
    if controller:
        chain.insert(1, Named(controller, "nvme", None, _attributes(facts, f"sys/class/nvme/{controller}")))
    # udev's own rules switch devices off that its table of hardware lists: no GPU, NIC or NVMe drive is among them.
    known = {"ACTION": "add", "SUBSYSTEM": subsystem, "ID_AUTOSUSPEND": "", "DEVTYPE": "disk" if controller else ""}
    return Device(chain, known)


def _endpoints(facts: Facts) -> frozenset[str]:
    picture = facts.topology
    return frozenset(one.address for kind in (picture.pci_gpus, picture.nics, picture.nvme) for one in kind or ())


def _attributes(facts: Facts, folder: str) -> Callable[[str], Observation]:
    return lambda name: facts.host.observe(f"{folder}/{name}")


def entry_of(entry: str, value: Setting) -> dict[str, str | None]:
    """The one entry of an attribute."""
    return {entry: str(value)}
