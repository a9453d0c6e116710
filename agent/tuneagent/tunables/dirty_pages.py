"""dirtyPages: how much unwritten page cache may build up. Ratio and bytes are two names of one setting.

Writing one member of a pair sets the other to 0; writing 0 to vm.dirty_bytes is EINVAL. So each pair is one
subject whose value names the member in force (Documentation/admin-guide/sysctl/vm.rst, dirty_bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import About, Dispute, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.errors import ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.sysctl_d import taken
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.sysctl_d import BootSetting, SysctlD, at_boot
from tuneagent.tunables.base import Tunable

# Pair -> member in the profile -> sysctl key.
PAIRS = {
    "key:vm.dirty": {"ratio": "vm.dirty_ratio", "bytes": "vm.dirty_bytes"},
    "key:vm.dirty_background": {"ratio": "vm.dirty_background_ratio", "bytes": "vm.dirty_background_bytes"},
}
_DEFAULTS = {"key:vm.dirty": {"ratio": 20}, "key:vm.dirty_background": {"ratio": 10}}


SettingValue = dict[str, int]


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Per cent of memory, or bytes, for the hard limit and for background writing."""

    ratio: int | None = None
    bytes: int | None = None
    background_ratio: int | None = None
    background_bytes: int | None = None


def _number_at_boot(member: str, setting: BootSetting) -> Observation:
    found = taken(setting.value, 1)
    return Value({member: found[0]}) if found else Unreadable(f"{setting.file}: {setting.value!r} is not a number")


def _path(key: str) -> str:
    return "proc/sys/" + key.replace(".", "/")


class DirtyPages(Tunable[Spec, SettingValue]):
    """Limits of dirty page cache."""

    name = "dirtyPages"
    group = "memory"
    spec_type = Spec
    value_type = SettingValue
    prefix = "key:vm."
    subject_pattern = r"key:vm\.dirty(_background)?"
    about = About(
        Severity.MEDIUM,
        "a percentage of a large memory is many GiB; flushing it during a checkpoint stalls every writer",
        ("https://docs.kernel.org/admin-guide/sysctl/vm.html",),
        dispute=Dispute(
            "TuneD: 40 and 10 per cent for throughput",
            "10 and 3 for latency; Grace guide 10 and 5",
            "bytes for training, since one per cent of a terabyte is many gigabytes",
        ),
    )
    drop_in = SysctlD()

    def check(self, spec: Spec) -> list[str]:
        """Both members of a pair, or a number out of range."""
        faults = []
        for ratio, size, prefix in (
            (spec.ratio, spec.bytes, ""),
            (spec.background_ratio, spec.background_bytes, "background"),
        ):
            names = (f".{prefix}Ratio", f".{prefix}Bytes") if prefix else (".ratio", ".bytes")
            if ratio is not None and size is not None:
                faults.append(f"{names[0]} and {names[1]} are two names of one setting: give one")
            if ratio is not None and not 1 <= ratio <= 100:
                faults.append(f"{names[0]}: {ratio} is not between 1 and 100")
            if size is not None and not 8192 <= size <= 1 << 50:
                faults.append(f"{names[1]}: {size} is not between 8192 and 2^50")
        if spec.ratio and spec.background_ratio and spec.background_ratio >= spec.ratio:
            faults.append(".backgroundRatio: must be below ratio")
        if spec.bytes and spec.background_bytes and spec.background_bytes >= spec.bytes:
            faults.append(".backgroundBytes: must be below bytes")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The pairs that the spec names."""
        chosen = []
        if spec.ratio is not None or spec.bytes is not None:
            chosen.append("key:vm.dirty")
        if spec.background_ratio is not None or spec.background_bytes is not None:
            chosen.append("key:vm.dirty_background")
        return chosen

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """The member in force, now and at the next boot."""
        owner = None
        try:
            given = {member: lines[-1] for member, key in PAIRS[subject].items() if (lines := at_boot(facts, key))}
            persisted: Observation
            if given:
                # Each line sets the other member to 0: the last one applied is in force.
                member, setting = max(given.items(), key=lambda item: item[1].order)
                persisted = _number_at_boot(member, setting)
                if setting.file.rpartition("/")[2] > self.drop_in.path.rpartition("/")[2]:
                    owner = setting.file
            else:
                persisted = Value(_DEFAULTS[subject])
        except ReadFailed as error:
            persisted = Unreadable(str(error))
        return Reading(
            self._live(facts, subject),
            evidence=", ".join("/" + _path(key) for key in PAIRS[subject].values()),
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
            owner=owner,
        )

    @staticmethod
    def _live(facts: Facts, subject: Subject) -> Observation:
        values: dict[str, int] = {}
        for member, key in PAIRS[subject].items():
            seen = facts.host.observe(_path(key))
            if not isinstance(seen, Value):
                return seen
            try:
                values[member] = int(str(seen.value))
            except ValueError:
                return Unreadable(f"/{_path(key)}: {seen.value!r} is not a number")
        return Value({"bytes": values["bytes"]} if values["bytes"] else {"ratio": values["ratio"]})

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """The member that the spec gives for each pair."""
        desired: dict[Subject, SettingValue] = {}
        for subject, ratio, size in (
            ("key:vm.dirty", spec.ratio, spec.bytes),
            ("key:vm.dirty_background", spec.background_ratio, spec.background_bytes),
        ):
            if subject in readings:
                desired[subject] = {"ratio": ratio} if ratio is not None else {"bytes": size or 0}
        return desired

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Write the member. A live kernel then sets the other to 0; in a tree we do that ourselves."""
        ((member, number),) = value.items()
        facts.host.files.write(_path(PAIRS[subject][member]), f"{number}\n")
        if not facts.host.files.is_kernel:
            other = "bytes" if member == "ratio" else "ratio"
            facts.host.files.write(_path(PAIRS[subject][other]), "0\n")

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """One line for the member; none for the other."""
        ((member, number),) = value.items()
        return {key: str(number) if name == member else None for name, key in PAIRS[subject].items()}


TUNABLE = DirtyPages()
