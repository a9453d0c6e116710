"""Rows that are reported and never written: how each is read, when it is right, why it matters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Absent, Dispute, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts

Read = Callable[[Facts], Observation]
# Why a row says nothing about this host; None where it applies.
Condition = Callable[[Facts], "str | None"]


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One check. `kind` is its type in a profile: with bool, true asks for `expect`; else the profile gives it."""

    group: str
    read: Read
    right: Callable[[Setting, Setting], bool]
    about: About
    evidence: str
    kind: Any = bool
    expect: Setting = True
    applies: tuple[Condition, ...] = ()

    def observe(self, facts: Facts) -> Observation:
        """What is there, or why this host has no such thing."""
        for condition in self.applies:
            reason = condition(facts)
            if reason is not None:
                return Absent(reason)
        return self.read(facts)

    def wanted(self, given: Any) -> Setting:
        """What the profile asks for; None where it does not."""
        if self.kind is bool:
            return self.expect if given else None
        return list(given) if isinstance(given, tuple) else given


def about(severity: Severity, why: str, source: str, advice: str = "", dispute: Dispute | None = None) -> About:
    """The explaining part of a row."""
    return About(severity, why, (source,), advice, dispute)


def equal(seen: Setting, wanted: Setting) -> bool:
    """The very value."""
    return bool(seen == wanted)


def among(seen: Setting, wanted: Setting) -> bool:
    """One of the values."""
    return seen in wanted


def at_least(seen: Setting, wanted: Setting) -> bool:
    """A number, or each number of a mapping, not below the limit."""
    numbers = seen.values() if isinstance(seen, dict) else [seen]
    return all(number >= wanted for number in numbers)


def at_most(seen: Setting, wanted: Setting) -> bool:
    """A number, or each number of a mapping, not above the limit."""
    numbers = seen.values() if isinstance(seen, dict) else [seen]
    return all(number <= wanted for number in numbers)


def each(seen: Setting, wanted: Setting) -> bool:
    """Every value of a mapping is the one wanted."""
    return all(value == wanted for value in seen.values())


def comparison_of(right: Callable[[Setting, Setting], bool]) -> Comparison:
    """The word for a comparison; `rule` for one of a row's own."""
    words: dict[Callable[[Setting, Setting], bool], Comparison] = {
        equal: "equal",
        among: "oneOf",
        at_least: "atLeast",
        at_most: "atMost",
    }
    return words.get(right, "rule")


def text(path: str) -> Read:
    """The content of a file."""
    return lambda facts: facts.host.observe(path)


def number(path: str) -> Read:
    """The content of a file that must be a whole number."""

    def read(facts: Facts) -> Observation:
        return as_number(facts.host.observe(path), path)

    return read


def as_number(seen: Observation, path: str) -> Observation:
    """A text as a whole number; anything else is unreadable."""
    if not isinstance(seen, Value):
        return seen
    if not re.match(r"-?\d{1,20}\Z", str(seen.value)):
        return Unreadable(f"/{path}: {str(seen.value)[:40]!r} is not a number")
    return Value(int(seen.value))


def field(path: str, pattern: str, convert: Callable[[str], Setting] = str, missing: str | None = None) -> Read:
    """The first group of a pattern in a file. Where it does not match: Absent with `missing`, else unreadable."""
    compiled = re.compile(pattern, re.MULTILINE)

    def read(facts: Facts) -> Observation:
        seen = facts.host.observe(path)
        if not isinstance(seen, Value):
            return seen
        match = compiled.search(str(seen.value))
        if match is None:
            return Absent(missing) if missing else Unreadable(f"/{path}: no line of the form {pattern}")
        return Value(convert(match.group(1)))

    return read


def gathered(names: Callable[[Facts], Mapping[str, str] | None], convert: Callable[[str], Setting], none: str) -> Read:
    """Several like files as one mapping: `names` gives label to path. One that cannot be read is unreadable.

    `none` says what it means that there are none; None from `names` means that this is not known.
    """

    def read(facts: Facts) -> Observation:
        try:
            paths = names(facts)
        except ReadFailed as error:
            return Unreadable(str(error))
        if paths is None:
            return Unreadable("the devices of this host are not known")
        found: dict[str, Setting] = {}
        for label, path in paths.items():
            seen = facts.host.observe(path)
            if isinstance(seen, Absent):
                continue
            if not isinstance(seen, Value):
                return seen
            try:
                found[label] = convert(str(seen.value))
            except (ValueError, IndexError):
                return Unreadable(f"/{path}: {str(seen.value)[:40]!r} is not understood")
        return Value(found) if found else Absent(none)

    return read


def exists(path: str, folder: str) -> Read:
    """Whether something is there. Unreadable where not even its folder is known."""

    def read(facts: Facts) -> Observation:
        if facts.host.files.exists(path):
            return Value(True)
        if facts.host.source == "tree" and facts.host.files.is_dir(folder):
            return Value(False)
        missing = facts.host.missing(path)
        return Value(False) if isinstance(missing, Absent) else missing

    return read


def command(argv: Sequence[str], convert: Callable[[str], Observation]) -> Read:
    """What a program of the host prints."""
    from tuneagent.errors import CommandFailed, NoSystemd

    def read(facts: Facts) -> Observation:
        try:
            # Several rows read the same log: the program runs once in a pass.
            done = facts.once(f"command {argv}", lambda: facts.host.exec.run(list(argv)))
        except NoSystemd as error:
            return Absent(str(error))
        except CommandFailed as error:
            return Unreadable(str(error))
        if done.code != 0:
            return Unreadable(f"{argv[0]}: exit {done.code}: {done.stderr.strip()[:200]}")
        return convert(done.stdout)

    return read


def words_of_cmdline(facts: Facts) -> Observation:
    """Arguments of the running kernel as a list of words."""
    seen = facts.host.observe("proc/cmdline")
    return Value(str(seen.value).split()) if isinstance(seen, Value) else seen


def several_nodes(facts: Facts) -> str | None:
    """More than one NUMA node has CPUs."""
    if facts.topology.numa_nodes is not None and sum(bool(node.cpus) for node in facts.topology.nodes) < 2:
        return "one NUMA node"
    return None


def metal(facts: Facts) -> str | None:
    """Not inside a virtual machine, as far as the CPU flags say."""
    try:
        flags = re.search(r"^(flags|Features)\s*:.*$", facts.host.files.read("proc/cpuinfo"), re.MULTILINE)
    except (PathMissing, ReadFailed):
        return None
    return "a virtual machine" if flags and " hypervisor" in flags.group(0) else None


def x86(facts: Facts) -> str | None:
    """An x86 machine."""
    arch = facts.topology.arch
    return None if arch in (None, "x86_64", "i686") else f"{arch} machine"


def arm64(facts: Facts) -> str | None:
    """An arm64 machine."""
    arch = facts.topology.arch
    return None if arch in (None, "aarch64") else f"{arch} machine"


def has_rdma(facts: Facts) -> str | None:
    """There is an RDMA device."""
    return None if facts.host.files.names("sys/class/infiniband") else "no RDMA device"


def has_nvidia_gpu(facts: Facts) -> str | None:
    """There is an NVIDIA GPU on the PCI bus."""
    gpus = facts.topology.pci_gpus
    if gpus is None or any(device.vendor == "10de" for device in gpus):
        return None
    return "no NVIDIA GPU"


def has_several_gpus(facts: Facts) -> str | None:
    """There is more than one NVIDIA GPU."""
    gpus = facts.topology.pci_gpus
    return (
        "one GPU, and none to link it with" if gpus is not None and sum(g.vendor == "10de" for g in gpus) == 1 else None
    )


def has_systemd(facts: Facts) -> str | None:
    """systemd is the host's pid 1."""
    sign = "run/systemd/system"
    if facts.host.files.exists(sign):
        return None
    # A capture that holds nothing of /run may hold what systemctl was told there.
    without = isinstance(facts.host.missing(sign), Absent) or facts.host.lacks_systemd
    return "systemd does not run here" if without else None


_RUNTIMES = (
    "run/containerd", "etc/containerd", "usr/bin/containerd", "usr/local/bin/containerd", "run/crio", "etc/crio",
    "usr/bin/crio", "var/run/docker.sock", "usr/bin/dockerd", "run/k3s", "run/podman", "usr/bin/podman",
)  # fmt: skip


def has_runtime(facts: Facts) -> str | None:
    """A container runtime is installed."""
    if any(facts.host.files.exists(sign) for sign in _RUNTIMES):
        return None
    known = all(isinstance(facts.host.missing(sign), Absent) for sign in _RUNTIMES)
    return "no container runtime" if known else None


def has_nvswitch(facts: Facts) -> str | None:
    """There is an NVSwitch on the PCI bus: a bridge of NVIDIA that is no PCI bridge (class 0680)."""
    return None if facts.topology.nvswitches else "no NVSwitch"


def has_kubelet(facts: Facts) -> str | None:
    """The host has a kubelet's configuration."""
    path = "var/lib/kubelet/config.yaml"
    if facts.host.files.exists(path):
        return None
    return "no kubelet" if isinstance(facts.host.missing(path), Absent) else None
