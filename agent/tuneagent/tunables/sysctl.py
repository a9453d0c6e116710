"""sysctl: a table of rows, at run time and in /etc/sysctl.d (Documentation/admin-guide/sysctl/)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Absent, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed, nearest
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.sysctl_d import number, taken
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.early_modules import is_early
from tuneagent.persist.sysctl_d import BootSetting, SysctlD, at_boot, lines_of
from tuneagent.persist.tmpfiles_d import winner as winner_of_tmpfiles
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.tables.sysctl import ROWS
from tuneagent.tunables.tables.sysctl_keys import ELSEWHERE, FAMILIES, NAMES, OF_MODULES

_FAMILIES = lazy_regex(FAMILIES)
_OF_INTERFACE = About(
    Severity.MEDIUM,
    "several links on one subnet answer for each other; of this value and that of conf.all the larger is in force",
    ("https://docs.kernel.org/networking/ip-sysctl.html",),
)
# Several numbers each: a lower limit for one of them would overwrite the first.
_SEVERAL = frozenset((
    "kernel.sem", "net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_fastopen_key",
    "net.ipv4.udp_mem", "net.ipv4.ip_local_port_range",
))  # fmt: skip
# What these say for "no limit": more than any number.
_UNLIMITED = {
    "kernel.sched_rt_runtime_us": -1,
    "kernel.hung_task_timeout_secs": 0,
    "net.netfilter.nf_conntrack_max": 0,
}
# Arguments of the kernel line that set a key, and what their words mean there (admin-guide/kernel-parameters.rst).
_ARGUMENTS: dict[str, tuple[str, dict[str | bool, int]]] = {
    "kernel.numa_balancing": ("numa_balancing", {"enable": 1, "disable": 0}),
    "kernel.nmi_watchdog": ("nmi_watchdog", {"0": 0, "1": 1}),
    "kernel.watchdog": ("nowatchdog", {True: 0}),
    "kernel.sched_autogroup_enabled": ("noautogroup", {True: 0}),
}
# Most keys hold no more; the kernel refuses what does not fit.
_INT_MAX = (1 << 31) - 1
_VALUE = lazy_regex(r"[A-Za-z0-9_.+-]+([ \t]+[A-Za-z0-9_.+-]+){0,15}\Z")
_NAMESPACES = (
    (("net.",), "net"),
    (("kernel.shm", "kernel.msg", "kernel.sem", "kernel.auto_msgmni", "fs.mqueue."), "ipc"),
)


class AtLeast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lower limit: what is higher already stays as it is."""

    min: int


Spec = dict[str, int | str | AtLeast]
# What is found, or wanted: a value, or for a lower limit `min` and what stands for no limit.
KeyValue = int | str | dict[str, int]


def is_allowed(key: str) -> bool:
    """Whether a profile may name this key."""
    prefix, _, name = key.rpartition(".")
    return name in NAMES.get(prefix, ()) or key in ROWS or _FAMILIES.fullmatch(key) is not None


def normal(value: object) -> int | str:
    """A value as compared: an integer where the kernel reads one, else words with single spaces."""
    text = " ".join(str(value).split())
    found = number(text)
    return text if found is None else found


def namespace_of(key: str) -> str | None:
    """The namespace that a key belongs to; None for the whole kernel."""
    return next((kind for prefixes, kind in _NAMESPACES if key.startswith(prefixes)), None)


def _path(key: str) -> str:
    return "proc/sys/" + key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def _raw(facts: Facts, key: str, live: Observation) -> str | msgspec.UnsetType:
    """The text of a running value, where `write` would spell it differently."""
    if not isinstance(live, Value):
        return msgspec.UNSET
    try:
        text = facts.host.files.read_bytes(_path(key)).decode()
    except (PathMissing, ReadFailed, UnicodeDecodeError):
        return msgspec.UNSET
    return msgspec.UNSET if text == f"{live.value}\n" else text


def observe_key(facts: Facts, key: str) -> Observation:
    """The running value. Unknown in a namespace that is not proven to be the host's."""
    namespace = namespace_of(key)
    if namespace is not None:
        proven = facts.host.namespace_is_hosts(namespace)
        if not proven:
            state = "is not" if proven is False else "cannot be proven to be"
            return Unreadable(f"{key}: this process's {namespace} namespace {state} the host's; run as root on it")
    seen = facts.host.observe(_path(key))
    if not isinstance(seen, Value):
        return seen
    text = " ".join(str(seen.value).split())
    # The kernel prints its numbers in decimal, whatever was written.
    return Value(int(text) if re.match(r"-?\d{1,20}\Z", text) else text)


def _at_boot(
    facts: Facts, key: str, written: Sequence[BootSetting], live: Observation
) -> tuple[Observation, str | None]:
    """What a key is after these writes, and the file that made it so: the last one that the kernel takes.

    Without any it is what the kernel's own line says, then what the kernel starts with.
    """
    row = ROWS.get(key)
    for one in reversed(written):
        value = _as_taken(one.value, live)
        if isinstance(value, int) and row is not None and row.highest is not None and not 0 <= value <= row.highest:
            value = None
        if value is not None:
            return (value if isinstance(value, Unreadable) else Value(value)), one.file
    given = _on_line(facts, key, live)
    if given is not None:
        return Value(given), None
    if row is not None and row.default is not None:
        return Value(row.default), None
    if written:
        return Absent(f"the kernel refuses {written[-1].value!r} of {written[-1].file}"), None
    return Absent("no file sets it"), None


def _on_line(facts: Facts, key: str, live: Observation) -> int | str | None:
    """What the line of the next boot gives a key, by an argument of its own or by `sysctl.KEY=`, which comes later."""
    found = [_as_taken(str(text), live) for text in at_next_boot(facts, f"sysctl.{key}") if isinstance(text, str)]
    known = [value for value in found if value is not None and not isinstance(value, Unreadable)]
    name, words = _ARGUMENTS.get(key, ("", {}))
    given = [words[word] for word in at_next_boot(facts, name) if word in words] if name else []
    return next((values[-1] for values in (known, given) if values), None)


def _as_taken(text: str, live: Observation) -> int | str | Unreadable | None:
    """A text as the kernel takes it for a key that holds now what `live` is; None where it refuses it."""
    words = str(live.value).split() if isinstance(live, Value) else []
    if not words or not all(number(word) is not None for word in words):
        return normal(text)
    found = taken(text, len(words))
    if 0 < len(found) < len(words):
        return Unreadable(f"{text!r} sets {len(found)} of {len(words)} numbers; what the others are then is not known")
    if any(abs(one) > _INT_MAX for one in found) and all(abs(number(word) or 0) <= _INT_MAX for word in words):
        return Unreadable(f"{text!r} may be more than the key can hold; whether the kernel takes it is not known")
    return normal(" ".join(map(str, found))) if found else None


class Sysctl(Tunable[Spec, KeyValue]):
    """Kernel parameters under /proc/sys."""

    name = "sysctl"
    group = "kernel"
    spec_type = Spec
    value_type = int | str
    merges = True
    prefix = "key:"
    is_known_by_row = True
    rows = tuple(ROWS)
    about = About(
        Severity.LOW, "the profile wants this kernel parameter", ("https://docs.kernel.org/admin-guide/sysctl/",)
    )
    drop_in = SysctlD()

    def check(self, spec: Spec) -> list[str]:
        """Keys outside the allow-list, and values that are not plain words."""
        faults = []
        for key, value in spec.items():
            if key in ELSEWHERE:
                faults.append(f".{key}: belongs to the tunable {ELSEWHERE[key]!r}, which handles it with its pair")
            elif not is_allowed(key):
                faults.append(f".{key}: not a key that a profile may set{nearest(key, tuple(ROWS))}")
            given = value.min if isinstance(value, AtLeast) else normal(value)
            highest = ROWS[key].highest if key in ROWS else None
            if highest is not None and not (isinstance(given, int) and 0 <= given <= highest):
                faults.append(f".{key}: {given!r} is not a number from 0 to {highest}")
            if isinstance(value, AtLeast) and key in _SEVERAL:
                faults.append(f".{key}: holds several numbers; give them all instead of a lower limit")
            if isinstance(value, str) and not (_VALUE.match(value) and len(value) <= 256):
                faults.append(f".{key}: {value!r} is not a plain value")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each key."""
        return [f"key:{key}" for key in sorted(spec)]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value, and what sysctl.d gives at the next boot."""
        key = subject.removeprefix("key:")
        live = observe_key(facts, key)
        persisted: Observation
        owner, own, others, doubt = None, False, None, ""
        try:
            doubt = _late_module(facts, key) if isinstance(live, Value) else ""
            line = winner_of_tmpfiles(facts, _path(key))
            if line is not None:
                doubt = f"{line.file} also writes it, and may do so before or after sysctl.d"
            persisted, winner = _at_boot(facts, key, at_boot(facts, key), live)
            if winner is not None:
                # Our file is read last of those shipped; only a name that sorts after it can override it.
                own = winner == f"/{self.drop_in.path}"
                late = winner.rpartition("/")[2] > self.drop_in.path.rpartition("/")[2]
                owner = winner if late and not own else None
                other, file = _at_boot(facts, key, at_boot(facts, key, without_ours=True), live)
                others = other.value if file is not None and isinstance(other, Value) else None
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        return Reading(
            live,
            evidence=f"/{_path(key)}",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
            owner=owner,
            own=own,
            others=others,
            raw=_raw(facts, key, live),
            doubt=doubt,
        )

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, KeyValue]:
        """The value of the profile, or `{min: N}`, with `unlimited` where the key has a number for no limit."""
        return {
            f"key:{key}": _lower_limit(key, value.min) if isinstance(value, AtLeast) else normal(value)
            for key, value in spec.items()
        }

    def matches(self, subject: Subject, observed: KeyValue, desired: KeyValue) -> bool:
        """Equal, or not below a lower limit."""
        if isinstance(desired, dict):
            return isinstance(observed, int) and _rank(observed, desired) >= desired["min"]
        return bool(observed == desired)

    def shown(self, subject: Subject, desired: KeyValue) -> KeyValue:
        """For a lower limit, the limit."""
        return desired["min"] if isinstance(desired, dict) else desired

    def comparison(self, subject: Subject, desired: KeyValue) -> Comparison:
        """A lower limit, or the value."""
        return "atLeast" if isinstance(desired, dict) else "equal"

    def value_for(self, subject: Subject, desired: KeyValue, found: Sequence[KeyValue | None]) -> KeyValue:
        """The value itself; for a lower limit, the largest of it, the running value and what files already set."""
        if not isinstance(desired, dict):
            return desired
        known = [value for value in found if isinstance(value, int)]
        return max((desired["min"], *known), key=lambda value: _rank(value, desired))

    def lowers(self, own: KeyValue, other: KeyValue | None, desired: KeyValue) -> bool:
        """Where a lower limit is wanted, a smaller number."""
        if not (isinstance(own, int) and isinstance(other, int) and isinstance(desired, dict)):
            return False
        return _rank(own, desired) < _rank(other, desired)

    def refuse(self, facts: Facts, subject: Subject, desired: KeyValue) -> str | None:
        """A lower limit where the host has no single number."""
        live = observe_key(facts, subject.removeprefix("key:"))
        if isinstance(desired, dict) and not (isinstance(live, Value) and isinstance(live.value, int)):
            return "the host has no single number there, so a lower limit has nothing to compare with"
        return None

    def could_name(self, subject: Subject) -> bool:
        """Keys of the allow-list."""
        key = subject.removeprefix("key:")
        return subject != key and key not in ELSEWHERE and is_allowed(key)

    def write_back(self, facts: Facts, subject: Subject, value: KeyValue, raw: str | msgspec.UnsetType) -> None:
        """The exact text that was there, with its tabs, where it still means that value."""
        if isinstance(raw, str) and normal(raw) == value:
            facts.host.files.write(_path(subject.removeprefix("key:")), raw)
        else:
            self.write(facts, subject, value)

    def write(self, facts: Facts, subject: Subject, value: KeyValue) -> None:
        """Write the running value."""
        key = subject.removeprefix("key:")
        facts.host.files.write(_path(key), f"{value}\n")

    def entries(self, subject: Subject, value: KeyValue) -> Entries:
        """One line of our sysctl.d file."""
        return {subject.removeprefix("key:"): str(value)}

    def culprit(self, facts: Facts, subject: Subject, found: KeyValue) -> str | None:
        """A file that sets the value found, whether or not it wins at boot."""
        key = subject.removeprefix("key:")
        for setting in lines_of(facts, key):
            if normal(setting.value) == found:
                return setting.file
        return None

    def describe(self, subject: Subject) -> About:
        """The row of the key."""
        key = subject.removeprefix("key:")
        row = ROWS.get(key)
        if row is None:
            return _OF_INTERFACE if key.startswith("net.ipv4.conf.") else self.about
        return About(row.severity, row.why, (row.source,), dispute=row.dispute)


def _late_module(facts: Facts, key: str) -> str:
    """Why sysctl.d may come too early for a key. Raises ReadFailed."""
    module = next((name for start, name in OF_MODULES.items() if key.startswith(start)), None)
    if module is None or is_early(facts, module):
        return ""
    return f"{module} may be loaded after sysctl.d is read; add it to a file in /etc/modules-load.d"


def _lower_limit(key: str, least: int) -> KeyValue:
    return {"min": least, **({"unlimited": _UNLIMITED[key]} if key in _UNLIMITED else {})}


def _rank(value: int, desired: dict[str, int]) -> float:
    return float("inf") if value == desired.get("unlimited") else value


TUNABLE = Sysctl()
