"""Kernel arguments of the next boot, by the boot loader that the host has. Found by scanning: nothing lists them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.host_name import is_older
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.kernel_line import by_name
from tuneagent.persist import boot_loaders
from tuneagent.persist.boot_loader import BootLoader


@functools.cache
def loaders() -> tuple[BootLoader, ...]:
    """Every way to boot that is known, in the order in which signs are looked for."""
    names = [info.name for info in pkgutil.iter_modules(boot_loaders.__path__)]
    found: list[BootLoader] = [importlib.import_module(f"{boot_loaders.__name__}.{name}").LOADER for name in names]
    return tuple(sorted(found, key=lambda one: one.rank))


class BootArguments:
    """The drop-in of the tunable `kernelArguments`: that of this host's boot loader."""

    generates = True

    @property
    def path(self) -> str:
        """Of the boot loader that is asked last."""
        return loaders()[-1].path

    @property
    def files(self) -> tuple[str, ...]:
        """Those of every boot loader."""
        return tuple(path for one in loaders() for path in one.files)

    def chosen(self, facts: Facts) -> BootLoader:
        """The boot loader of this host."""
        return facts.once("boot loader", lambda: next(one for one in loaders() if one.is_there(facts)))

    def next_line(self, facts: Facts) -> str:
        """Arguments that the next boot gets. Raises PathMissing or ReadFailed."""
        return self.chosen(facts).next_line(facts)

    def impossible(self, facts: Facts) -> str | None:
        """Why the arguments would not reach the next boot."""
        return self.chosen(facts).impossible(facts)

    def entries(self, facts: Facts) -> dict[str, str]:
        """Arguments that are ours."""
        return self.chosen(facts).entries(facts)

    def is_whole(self, facts: Facts, entries: Mapping[str, str]) -> bool:
        """What is generated from our file may lag behind it after a crash: then equal entries prove nothing."""
        return self.chosen(facts).is_whole(facts, entries)

    def replace(self, facts: Facts, entries: Mapping[str, str]) -> None:
        """Bring the boot loader to these arguments."""
        self.chosen(facts).replace(facts, entries)


def _line(facts: Facts) -> str | None:
    try:
        return BootArguments().next_line(facts)
    except (PathMissing, ReadFailed):
        return None


def is_line_known(facts: Facts) -> bool:
    """Whether the line of the next boot is known."""
    return _line(facts) is not None


def known_next_line(facts: Facts) -> str:
    """The line of the next boot; empty where it is not known."""
    return _line(facts) or ""


# The first kernel that reads an argument; older ones pass over it, unless their distributor has added it.
_SINCE = (
    ("sysctl.", (5, 8)),
    ("cpufreq.default_governor", (5, 9)),
    ("workqueue.unbound_cpus", (6, 6)),
    ("thp_anon", (6, 12)),
)


def at_next_boot(facts: Facts, name: str) -> list[str | bool]:
    """Values of an argument on the line of the next boot.

    None where that line is not known, and where this kernel is too old for the argument.
    """
    since = next((release for start, release in _SINCE if name.startswith(start)), None)
    if since is not None and is_older(facts.host, since):
        return []
    found = facts.once("arguments of the next boot", lambda: by_name(known_next_line(facts)))
    return found.get(name.replace("-", "_"), [])


# A sign of another way to boot, and what its owner has to do.
_BY_HAND = (
    ("run/ostree-booted", "rpm-ostree kargs --append-if-missing='{words}'"),
    ("etc/bottlerocket-release", "settings.boot.kernel-parameters in the node's user data: {words}"),
    ("usr/bin/talosctl", "machine.install.extraKernelArgs in the machine's configuration: {words}"),
    ("etc/kernel/cmdline", "add {words} to /etc/kernel/cmdline, then `kernel-install add-all`"),
    ("boot/loader/entries", "add {words} to the line `options` of each file in /boot/loader/entries"),
)


def by_hand(facts: Facts, loader: BootLoader, words: str) -> str | None:
    """What to do on a host whose boot loader is not handled; None where nothing is known."""
    told = loader.by_hand(words)
    if told is not None or facts.host.files.exists("etc/default/grub"):
        return told
    return next((advice.format(words=words) for sign, advice in _BY_HAND if facts.host.files.exists(sign)), None)
