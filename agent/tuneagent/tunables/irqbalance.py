"""irqbalance: CPUs that the daemon avoids, where it owns the interrupts (irqbalance(1))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.contracts.values import (
    About,
    Absent,
    Dispute,
    Disruption,
    Observation,
    Reading,
    Severity,
    Subject,
    Unreadable,
    Value,
)
from tuneagent.errors import CommandFailed, NoSystemd, ReadFailed, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import KEPT_UNIT_FOLDERS
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.facts.unit_commands import environment_of
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist, parse_cpumask
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.systemd_d import IrqbalanceDropIn, reload_refusal
from tuneagent.tunables.base import Tunable

UNIT, VARIABLE = "irqbalance.service", "IRQBALANCE_BANNED_CPULIST"
OLD_VARIABLE = "IRQBALANCE_BANNED_CPUS"


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """CPUs that get no interrupt from it: a list, or `{isolated}` of the CPU plan."""

    banned_cpus: str


class Irqbalance(Tunable[Spec, str]):
    """Ban list of irqbalance. Choose this or `irqAffinity` with the service stopped: one owner, not two."""

    name = "irqbalance"
    group = "irq"
    spec_type = Spec
    value_type = str
    prefix = "irqbalance:"
    subject_pattern = r"irqbalance:banned"
    about = About(
        Severity.MEDIUM,
        "irqbalance spreads interrupts over every CPU that it may use, including those of jobs",
        ("https://github.com/Irqbalance/irqbalance",),
        dispute=Dispute(
            "Grace guide: switch it off; 10 to 20 % with static affinity",
            "shared nodes: it follows the load, and newer versions know NUMA",
            "one owner: the service stopped with irqAffinity, or running with a ban list",
        ),
    )
    disruption = Disruption.SERVICE
    drop_in = IrqbalanceDropIn()
    after = ("smt",)

    def check(self, spec: Spec) -> list[str]:
        """An invalid list."""
        if spec.banned_cpus == "{isolated}":
            return []
        try:
            parse_cpulist(spec.banned_cpus)
        except ValueError as error:
            return [f".bannedCpus: {error}"]
        return []

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The one list."""
        return ["irqbalance:banned"]

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """CPUs that the running daemon avoids, and those that it will avoid when its unit starts again."""
        owner, own = None, False
        try:
            variables = _variables(facts)
            place = next((variables[name][1] for name in (VARIABLE, OLD_VARIABLE) if name in variables), "")
            own = place == f"/{self.drop_in.variables}"
            owner = place if place and not own and self.drop_in.entries(facts) else None
            cpus = _banned(facts, {name: value for name, (value, _) in variables.items()})
            persisted: Observation = Value(format_cpulist(cpus))
        except (ReadFailed, ValueError) as error:
            persisted = Unreadable(str(error))
        return Reading(
            self._live(facts),
            evidence=f"/proc/<{UNIT}>/environ",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
            # Ours is read last but for a drop-in whose name sorts after it.
            owner=owner,
            own=own,
        )

    def _by_itself(self, facts: Facts) -> set[int] | None:
        """CPUs that the daemon would avoid without our file; None where that is not known."""
        try:
            others = _variables(facts, self.drop_in.files)
            return _banned(facts, {name: text for name, (text, _) in others.items()})
        except (ReadFailed, ValueError):
            return None

    @staticmethod
    def _live(facts: Facts) -> Observation:
        try:
            state = facts.host.unit(UNIT, "LoadState", "ActiveState", "MainPID")
        except NoSystemd as error:
            return Absent(str(error))
        except CommandFailed as error:
            return Unreadable(str(error))
        if state.get("LoadState") == "not-found":
            return Absent("irqbalance is not installed")
        if "ActiveState" not in state:
            return Unreadable(f"systemctl answered {state}")
        if state["ActiveState"] != "active" or not state.get("MainPID", "").isdigit():
            return Absent("irqbalance is not running")
        try:
            return Value(format_cpulist(_banned(facts, facts.host.processes.environment(int(state["MainPID"])))))
        except (ReadFailed, ValueError) as error:
            return Unreadable(str(error))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, str]:
        """The list, filled in from the CPU plan."""
        cpus = expand(facts, spec.banned_cpus)
        return {} if cpus is None else {"irqbalance:banned": format_cpulist(parse_cpulist(cpus))}

    def waits(self, facts: Facts, subject: Subject) -> str | None:
        """A CPU plan for another topology."""
        return waiting(facts) if "{" in getattr(facts.specs.get(self.name), "banned_cpus", "") else None

    def refuse(self, facts: Facts, subject: Subject, desired: str) -> str | None:
        """A reload of systemd that would take GPUs from containers."""
        return reload_refusal(facts)

    def write(self, facts: Facts, subject: Subject, value: str) -> None:
        """Put the drop-in in place and restart the daemon: it reads its environment only at start."""
        reason = reload_refusal(facts)
        if reason is not None:
            # Checked again here, since undo also takes this path.
            raise WriteFailed(reason)
        # What the daemon avoids by itself needs no file: so undo leaves it as it was.
        by_itself = self._by_itself(facts) == set(parse_cpulist(str(value)))
        self.drop_in.replace(facts, {} if by_itself else {VARIABLE: str(value) or "-"})
        for argv in (["systemctl", "daemon-reload"], ["systemctl", "try-restart", UNIT]):
            facts.order(argv)

    def entries(self, subject: Subject, value: str) -> Entries:
        """The variable; `-` for no CPUs, because without it irqbalance bans the isolated ones."""
        return {VARIABLE: str(value) or "-"}


def _variables(facts: Facts, without: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """Variables that the daemon's unit starts it with, and their files. Raises ReadFailed."""
    found = environment_of(facts, UNIT, KEPT_UNIT_FOLDERS, without)
    if not found.is_whole:
        raise ReadFailed(f"what {UNIT} is told is not known: a file of its variables, or a form that is not followed")
    return found.values


def _banned(facts: Facts, variables: Mapping[str, str]) -> set[int]:
    """CPUs that irqbalance avoids with these variables. Raises ReadFailed, ValueError.

    The list, where `-` is none; the mask of releases before 1.8.0; without either, the CPUs that the kernel isolates.
    """
    if VARIABLE in variables:
        listed = variables[VARIABLE].strip()
        return set() if listed == "-" else set(parse_cpulist(listed))
    if OLD_VARIABLE in variables:
        return set(parse_cpumask(variables[OLD_VARIABLE].strip()))
    isolated: set[int] = set()
    for name in ("isolated", "nohz_full"):
        text = facts.host.files.read_or(f"sys/devices/system/cpu/{name}", "").strip()
        isolated |= set(parse_cpulist("" if text == "(null)" else text))
    return isolated


TUNABLE = Irqbalance()
