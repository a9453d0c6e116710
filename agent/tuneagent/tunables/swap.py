"""swap: devices in use as swap are taken out of use (swapon(8)). The next boot is reported and left to fstab."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import (
    About,
    Absent,
    Disruption,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.swap_devices import swap_devices
from tuneagent.tunables.base import Tunable

# Turning swap off reads its pages back into memory: that can take minutes.
_TIMEOUT_S = 600.0


# Its priority; None: not in use.
Priority = int | None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`false`: no swap. No other value is possible."""

    enabled: bool


class Swap(Tunable[Spec, Priority]):
    """Swap devices and files in use."""

    name = "swap"
    group = "memory"
    spec_type = Spec
    value_type = Priority
    prefix = "swap:"
    subject_pattern = r"swap:.+"
    about = About(
        Severity.HIGH,
        "a swapped page in the path that feeds a GPU stalls it for milliseconds",
        ("https://man7.org/linux/man-pages/man8/swapon.8.html",),
        "remove the line from /etc/fstab, or mask the swap unit, so that the next boot has no swap either",
    )
    disruption = Disruption.SERVICE

    def check(self, spec: Spec) -> list[str]:
        """Only removal is offered: tuneagent does not create swap."""
        return [".enabled: only false is allowed"] if spec.enabled else []

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each device; `host` where there is none."""
        seen = swap_devices(facts)
        # `host` is always among them: a device that we took out of use is not one that the profile forgot.
        return ["host", *(f"swap:{name}" for name in seen)] if isinstance(seen, list) else ["host"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Priority of the device, or null where it is not in use."""
        seen = swap_devices(facts)
        live: Observation
        if not isinstance(seen, list):
            live = seen
        else:
            live = Value(None) if subject == "host" else self._priority(facts, subject.removeprefix("swap:"))
        return Reading(live, evidence="/proc/swaps, /etc/fstab", persisted=_next_boot(facts))

    @staticmethod
    def _priority(facts: Facts, name: str) -> Observation:
        for line in facts.host.files.read_or("proc/swaps", "").splitlines()[1:]:
            fields = line.split()
            if len(fields) >= 5 and fields[0] == name:
                # Below 0 the kernel assigns them itself, again at each swapon.
                return Value(max(int(fields[4]), -1))
        return Value(None)

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, Priority]:
        """None in use."""
        return dict.fromkeys(readings)

    def refuse(self, facts: Facts, subject: Subject, desired: Priority) -> str | None:
        """Too little memory to take the pages back."""
        text = facts.host.files.read_or("proc/meminfo", "")
        sizes = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}
        used = sizes.get("SwapTotal", 0) - sizes.get("SwapFree", 0)
        available = sizes.get("MemAvailable", 0)
        if available < 2 * used:
            return f"{used} KiB are in swap and only {available} KiB of memory are available"
        return None if facts.host.exec.available else "swapoff cannot be run on a tree of files"

    def write(self, facts: Facts, subject: Subject, value: Priority) -> None:
        """swapoff; undo turns swap on again with the earlier priority."""
        name = subject.removeprefix("swap:")
        # A negative priority is the kernel's own choice and cannot be given.
        argv = ["swapoff", name] if value is None else ["swapon", *(["-p", str(value)] if value >= 0 else []), name]
        facts.order(argv, _TIMEOUT_S)


_UNITS = "etc/systemd/system"
_ZRAM = ("etc/systemd/zram-generator.conf", "usr/lib/systemd/zram-generator.conf")


def _next_boot(facts: Facts) -> Observation:
    """The highest priority that the next boot gives to swap: -1 where it leaves that to the kernel.

    Swap comes from /etc/fstab, from units of systemd and from zram-generator. A masked unit starts nothing.
    """
    files = facts.host.files
    try:
        lines = [line.split() for line in files.read_or("etc/fstab", "").splitlines()]
        units = [name for name in files.names(f"{_UNITS}/swap.target.wants") if name.endswith(".swap")]
        zram = next((text for path in _ZRAM if (text := files.read_or(path, ""))), "")
    except ReadFailed as error:
        return Unreadable(str(error))
    found = [line for line in lines if len(line) >= 3 and line[2] == "swap" and not line[0].startswith("#")]
    options = [(line[3] if len(line) > 3 else "").split(",") for line in found if not _is_masked(facts, line[0])]
    given = [_priority_of(words) for words in options if "noauto" not in words]
    given += [-1 for name in units if not files.is_mask(f"{_UNITS}/{name}")]
    # What zram-generator gives where its file says nothing.
    given += [100] if re.search(r"^\[zram\d+\]", zram, re.MULTILINE) else []
    return Value(max(given)) if given else Absent("nothing enables swap at boot")


def _priority_of(options: Sequence[str]) -> int:
    return next((int(one[4:]) for one in options if re.match(r"pri=\d{1,5}\Z", one)), -1)


def _is_masked(facts: Facts, device: str) -> bool:
    """Whether the unit that stands for a line of fstab is masked (systemd-escape --path)."""
    escaped = re.sub(r"[^A-Za-z0-9:_./]", lambda match: f"\\x{ord(match.group(0)):02x}", device.strip("/")).replace(
        "/", "-"
    )
    return facts.host.files.is_mask(f"{_UNITS}/{escaped}.swap")


TUNABLE = Swap()
