"""Input and output of roll-out decisions: one node's state, limits, actions. Frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from tuneagent.contracts.tuning_profile import NodeCounts

APPLY_LIMIT_S = 600.0
GRANT_LIMIT_S = 1800.0
GRANT_LIFETIME_S = 900
# Classes of change that need a grant.
DISRUPTIONS = ("service", "kubelet", "gpu", "reboot")

Phase = Literal[
    "Waiting", "Applying", "Soaking", "Done", "Pending", "Draining", "Granted", "Finishing", "Failed", "Baseline"
]
IN_FLIGHT = ("Applying", "Soaking", "Pending", "Draining", "Granted", "Finishing")
HOLDING = ("Draining", "Granted", "Finishing")


@dataclass(frozen=True)
class NodeState:
    """One node of a profile, as far as decisions need it. Times are seconds on the operator's clock."""

    name: str
    target: str
    # No profile governs the node any more: it is to go back to its baseline.
    is_nobodys: bool = False
    named: str = ""
    phase: str = "Waiting"
    phase_target: str = ""
    since: float = 0.0
    attempts: int = 0
    previous: str = ""
    # Whether the Node carries our cordon mark, and since when.
    cordoned_by_us: bool = False
    cordoned_since: float = 0.0
    unschedulable: bool = False
    ready: bool = True
    agent_ready: bool = True
    holds_place: bool = False
    # From the agent; `seen` is whether it has observed what was named last, `answered` whether it ever wrote to this
    # object.
    seen: bool = False
    answered: bool = True
    at_revision: str = ""
    at_baseline: bool = False
    not_as_wanted: int = 0
    error: str = ""
    # Why the agent will not make the named changes; waiting does not help.
    refusal: str = ""
    proposed_digest: str = ""
    proposed_disruption: str = ""
    granted_digest: str = ""
    granted_disruption: str = ""
    granted_boot_id: str = ""
    # The agent has taken a grant and has not answered, and nothing proves that its work has ended.
    in_hand: bool = False
    # Whether spec.desired says Baseline.
    baseline_named: bool = False
    # Waits for approval: nothing new begins, what is under way continues.
    held_back: bool = False
    boot_id: str = ""
    # The boot that the Node's status reports; the kubelet may lag behind the agent.
    kubelet_boot_id: str = ""
    idle: bool | None = None

    @property
    def is_named(self) -> bool:
        """Whether the NodeTuning names the target revision, or the baseline for a node that no profile governs."""
        return self.baseline_named if self.is_nobodys else self.named == self.target and not self.baseline_named

    @property
    def is_current(self) -> bool:
        """Whether the phase refers to the revision that is wanted now."""
        return self.phase_target == self.target

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for what is wanted now."""
        if self.phase == "Failed":
            return self.is_current
        return self.is_current and self.is_named and self.phase in ("Done", "Baseline")

    @property
    def trouble(self) -> str:
        """Why a node whose roll-out has finished is not known to be as wanted now; empty if it is."""
        if self.error or self.refusal:
            return self.error or self.refusal
        if self.proposed_digest:
            return f"needs a {self.proposed_disruption} change"
        if self.not_as_wanted:
            return f"{self.not_as_wanted} settings are not as wanted"
        reached = self.at_baseline if self.is_nobodys else self.at_revision == self.target
        return "" if reached else f"is at revision {self.at_revision or 'none'}"

    @property
    def is_down(self) -> bool:
        """Whether the node takes no work now, for any reason."""
        return self.holds_place or self.unschedulable or not self.ready


@dataclass(frozen=True)
class Limits:
    """A profile's roll-out settings, counts resolved against the nodes selected."""

    max_unavailable: int = 1
    max_parallel_live: int = 1
    max_unhealthy: int = 1
    canary: int = 1
    soak_s: float = 300.0
    failure_threshold: int = 1
    apply_limit_s: float = APPLY_LIMIT_S
    grant_limit_s: float = GRANT_LIMIT_S
    drain_mode: str = "whenIdle"
    drain_timeout_s: float = 86400.0


@dataclass(frozen=True)
class Action:
    """One thing to do for one node. `reason` is shown to people."""

    kind: Literal[
        "name", "baseline", "revert", "phase", "take", "free", "cordon", "uncordon", "evict", "grant", "ungrant"
    ]
    node: str
    phase: str = ""
    revision: str = ""
    digest: str = ""
    disruption: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """Actions in order, and why nothing more begins."""

    actions: tuple[Action, ...] = ()
    halted: str = ""
    finished: bool = False
    next_check_s: float | None = None
    counts: NodeCounts = field(default_factory=NodeCounts)


def resolve_limit(value: int | str, total: int) -> int:
    """A count, or a percentage of `total` rounded up; at least 1 unless 0 was given."""
    if isinstance(value, int):
        return max(value, 0)
    percent = int(value.rstrip("%"))
    return math.ceil(total * percent / 100) if percent else 0
