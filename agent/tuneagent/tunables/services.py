"""services: daemons that change settings themselves, or that GPUs need, through the host's systemd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from tuneagent.contracts.values import (
    About,
    Absent,
    Disruption,
    Lifetime,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import CommandFailed, NoSystemd
from tuneagent.facts.one_pass import Facts
from tuneagent.tunables.base import Tunable

Spec = dict[str, Literal["running", "stopped"]]
# Why each service matters. A profile can name no other.
SERVICES = {
    "apt-daily-upgrade.timer": "upgrades packages, including the GPU driver, on its own schedule",
    "apt-daily.timer": "reads package lists in the middle of a run",
    "cpupower": "sets the governor at boot",
    "dnf-automatic.timer": "upgrades packages, including the GPU driver, on its own schedule",
    "dnf-makecache.timer": "reads package lists in the middle of a run",
    "e2scrub_all.timer": "reads whole file systems in the middle of a run",
    "fstrim.timer": "trims whole drives in the middle of a run",
    "fwupd-refresh.timer": "queries the firmware, which stops all CPUs for a moment (SMI)",
    "irqbalance": "moves interrupts every ten seconds, away from where they were pinned",
    "ksm": "merges pages across processes and NUMA nodes, for CPU time",
    "ksmtuned": "switches page merging on under memory pressure",
    "logrotate.timer": "compresses logs in the middle of a run",
    "man-db.timer": "indexes manuals in the middle of a run",
    "numad": "moves processes and their memory between NUMA nodes",
    "nvidia-dcgm": "watches GPUs, and holds them when a driver is to be unloaded",
    "nvidia-fabricmanager": "without it no GPU behind an NVSwitch can be used",
    "nvidia-imex": "shares GPU memory across the nodes of an NVLink domain",
    "nvidia-persistenced": "keeps the driver loaded, so that clocks and power limits stay",
    "packagekit": "contacts package servers on its own schedule",
    "plocate-updatedb.timer": "walks every file system in the middle of a run",
    "power-profiles-daemon": "sets governors and energy preferences",
    "snapd": "refreshes packages on its own schedule",
    "thermald": "lowers clocks before the firmware would",
    "tlp": "writes power settings of its own",
    "tuned": "writes its own profile again at start and at each CPU hot plug",
    "unattended-upgrades": "upgrades packages, including the GPU driver, on its own schedule",
}
_TIMEOUT_S = 30.0
# States of unit files that `enable` and `disable` do not change: another unit, a udev rule or a generator starts them.
_STARTED_BY_OTHERS = ("static", "alias", "indirect", "generated", "transient", "")


SettingValue = dict[str, bool]


class Services(Tunable[Spec, SettingValue]):
    """Running and starting at boot are one setting: a unit is `running` if both hold, `stopped` if neither."""

    name = "services"
    group = "services"
    spec_type = Spec
    value_type = SettingValue
    merges = True
    prefix = "unit:"
    about = About(
        Severity.MEDIUM,
        "two programs that write the same setting take turns, and the last one wins",
        ("https://www.freedesktop.org/software/systemd/man/latest/systemctl.html",),
    )
    disruption = Disruption.SERVICE
    lifetime = Lifetime.PERSISTENT

    def check(self, spec: Spec) -> list[str]:
        """Services that tuneagent does not manage."""
        return [
            f".{name}: not a service that a profile may touch (known: {', '.join(SERVICES)})"
            for name in spec
            if name not in SERVICES
        ]

    def could_name(self, subject: Subject) -> bool:
        """The units that a profile may set."""
        name = subject.removeprefix(self.prefix)
        return subject != name and any(_unit(one) == name for one in SERVICES)

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """One for each unit."""
        return [f"unit:{_unit(name)}" for name in sorted(spec)]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Active and enabled, as systemd says."""
        unit = subject.removeprefix("unit:")
        evidence = f"systemctl show {unit}"
        try:
            state = facts.host.unit(unit, "LoadState", "ActiveState", "UnitFileState")
        except NoSystemd as error:
            return Reading(Absent(str(error)), evidence=evidence)
        except CommandFailed as error:
            return Reading(Unreadable(str(error)), evidence=evidence)
        if state.get("LoadState") == "not-found":
            return Reading(Absent(f"{unit} is not installed"), evidence=evidence)
        if "ActiveState" not in state:
            return Reading(Unreadable(f"systemctl answered {state}"), evidence=evidence)
        file_state = state.get("UnitFileState", "")
        live = {"active": state["ActiveState"] in ("active", "activating", "reloading")}
        if file_state not in _STARTED_BY_OTHERS:
            # Enabled for this boot alone is as good as not enabled.
            live["enabled"] = file_state == "enabled"
        return Reading(Value(live), evidence=evidence, doubt=_doubt(unit, file_state, live["active"]))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """Both or neither."""
        return {
            f"unit:{_unit(name)}": {"active": state == "running", "enabled": state == "running"}
            for name, state in spec.items()
        }

    def matches(self, subject: Subject, observed: SettingValue, desired: SettingValue) -> bool:
        """What is known of the unit is as wanted."""
        return all(observed.get(key, wanted) == wanted for key, wanted in desired.items())

    def refuse(self, facts: Facts, subject: Subject, desired: SettingValue) -> str | None:
        """A mask, which is an administrator's explicit word."""
        unit = subject.removeprefix("unit:")
        file_state = facts.host.unit(unit, "LoadState", "ActiveState", "UnitFileState").get("UnitFileState", "")
        if desired["active"] and file_state.startswith("masked"):
            return f"{unit} is masked: to allow it, run `systemctl unmask {unit}`"
        return None

    def value_for(self, subject: Subject, desired: SettingValue, found: Sequence[SettingValue | None]) -> SettingValue:
        """Without the switch that the unit does not have."""
        live = found[0]
        return desired if live is None or "enabled" in live else {"active": desired["active"]}

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Enable or disable where the unit has that switch, then start or stop."""
        unit = subject.removeprefix("unit:")
        verbs = [] if "enabled" not in value else ["enable" if value["enabled"] else "disable"]
        for verb in (*verbs, "start" if value["active"] else "stop"):
            # `enable` would reload systemd, which can take GPUs from containers (nvidia-container-toolkit issue 48).
            quiet = ["--no-reload"] if verb in ("enable", "disable") else []
            facts.order(["systemctl", verb, *quiet, unit], _TIMEOUT_S)

    def describe(self, subject: Subject) -> About:
        """Why this unit."""
        name = subject.removeprefix("unit:").removesuffix(".service")
        return About(self.about.severity, SERVICES.get(name, self.about.why), self.about.sources)


def _doubt(unit: str, file_state: str, active: bool) -> str:
    """Why a unit that is as wanted now may be otherwise after the next boot."""
    if file_state == "masked-runtime":
        return f"{unit} is masked only until the next boot"
    if file_state in _STARTED_BY_OTHERS and file_state and not active:
        return f"{unit} is {file_state}: another unit or udev may start it again"
    return ""


def _unit(name: str) -> str:
    return name if name.endswith(".timer") else f"{name}.service"


TUNABLE = Services()
