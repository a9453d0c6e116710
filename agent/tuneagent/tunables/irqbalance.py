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
from tuneagent.facts.reserved_plan import expand, waiting
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.systemd_d import IrqbalanceDropIn, reload_refusal
from tuneagent.tunables.base import Tunable

UNIT, VARIABLE = "irqbalance.service", "IRQBALANCE_BANNED_CPULIST"


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
        """List in the environment of the running daemon, and of our drop-in."""
        try:
            noted = self.drop_in.entries(facts).get(VARIABLE, "")
            persisted: Observation = Value(format_cpulist(parse_cpulist(noted)))
        except (ReadFailed, ValueError) as error:
            persisted = Unreadable(str(error))
        return Reading(
            self._live(facts),
            evidence=f"/proc/<{UNIT}>/environ",
            persisted=persisted,
            mechanism=self.drop_in.path,
            impossible=self.drop_in.impossible(facts),
        )

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
            environment = facts.host.processes.environment(int(state["MainPID"]))
            return Value(format_cpulist(parse_cpulist(environment.get(VARIABLE, ""))))
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
        self.drop_in.replace(facts, {VARIABLE: str(value)} if value else {})
        for argv in (["systemctl", "daemon-reload"], ["systemctl", "try-restart", UNIT]):
            facts.order(argv)

    def entries(self, subject: Subject, value: str) -> Entries:
        """The variable, where there is something to ban."""
        return {VARIABLE: str(value) if value else None}


TUNABLE = Irqbalance()
