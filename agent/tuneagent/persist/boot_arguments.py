"""Kernel arguments of the next boot, by the boot loader that the host has."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.facts.one_pass import Facts
from tuneagent.persist import grub, grubby
from tuneagent.persist.drop_in import DropIn

# A sign of another way to boot, and what its owner has to do.
_BY_HAND = (
    ("run/ostree-booted", "rpm-ostree kargs --append-if-missing='{words}'"),
    ("etc/bottlerocket-release", "settings.boot.kernel-parameters in the node's user data: {words}"),
    ("usr/bin/talosctl", "machine.install.extraKernelArgs in the machine's configuration: {words}"),
    ("etc/kernel/cmdline", "add {words} to /etc/kernel/cmdline, then `kernel-install add-all`"),
    ("boot/loader/entries", "add {words} to the line `options` of each file in /boot/loader/entries"),
    ("boot/extlinux/extlinux.conf", "add {words} to APPEND in /boot/extlinux/extlinux.conf"),
)


class BootArguments:
    """Our drop-in of GRUB where there is one, else our note for grubby."""

    path = grub.GrubDropIn.path
    files = (*grub.GrubDropIn.files, *grubby.GrubbyRecord.files)
    generates = True

    def __init__(self) -> None:
        self._grub: DropIn = grub.GrubDropIn()
        self._grubby: DropIn = grubby.GrubbyRecord()

    def chosen(self, facts: Facts) -> DropIn:
        """The mechanism of this host."""
        return self._grubby if grubby.is_there(facts) else self._grub

    def next_line(self, facts: Facts) -> str:
        """Arguments that the next boot gets. Raises PathMissing or ReadFailed."""
        return grubby.next_line(facts) if grubby.is_there(facts) else grub.next_line(facts)

    def impossible(self, facts: Facts) -> str | None:
        """Why the arguments would not reach the next boot."""
        return self.chosen(facts).impossible(facts)

    def entries(self, facts: Facts) -> dict[str, str]:
        """Arguments that are ours."""
        return self.chosen(facts).entries(facts)

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Bring the boot loader to these arguments."""
        self.chosen(facts).replace(facts, entries)


def by_hand(facts: Facts, words: str) -> str | None:
    """What to do on a host whose boot loader is not handled; None where nothing is known."""
    if facts.host.files.exists("etc/default/grub"):
        return None
    for sign, advice in _BY_HAND:
        if facts.host.files.exists(sign):
            return advice.format(words=words)
    return None
