"""What may proceed now. Pure: the state of all nodes of a profile in, the next actions out.

Naming a revision on a node is the roll-out step. A node goes
Waiting -> Applying -> Soaking -> Done, and where a grant is needed
Applying -> Pending -> Draining -> Granted -> Finishing -> Soaking -> Done.
Every step has a time limit, and every way out of Draining, Granted and Finishing takes the cordon off and frees
the place in the ledger. A node that fails is named and counts against the failure threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

APPLY_LIMIT_S = 600.0
GRANT_LIMIT_S = 1800.0
FINISH_LIMIT_S = 600.0
GRANT_LIFETIME_S = 900
REFUSED_LIMIT = 2
PAUSED_REFRESH_S = 60.0

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
    named: str = ""
    phase: str = "Waiting"
    phase_target: str = ""
    since: float = 0.0
    attempts: int = 0
    previous: str = ""
    cordoned_by_us: bool = False
    unschedulable: bool = False
    ready: bool = True
    agent_ready: bool = True
    holds_place: bool = False
    # From the agent; `seen` is whether it has observed what was named last.
    seen: bool = False
    at_revision: str = ""
    at_baseline: bool = False
    drifted: int = 0
    error: str = ""
    pending_digest: str = ""
    pending_disruption: str = ""
    granted_digest: str = ""
    granted_disruption: str = ""
    # Whether the cordon on the node carries our mark.
    cordon_is_ours: bool = False
    # Whether spec.desired says Baseline.
    baseline_named: bool = False
    # Waits for people: nothing new begins, what is under way goes on.
    held_back: bool = False
    boot_id: str = ""
    boot_id_before: str = ""
    idle: bool | None = None

    @property
    def wants_baseline(self) -> bool:
        """No profile governs the node any more."""
        return self.target == ""

    @property
    def is_named(self) -> bool:
        """Whether the object says what the phase is about."""
        return self.baseline_named if self.wants_baseline else self.named == self.target and not self.baseline_named


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
    drain_mode: str = "whenIdle"
    drain_timeout_s: float = 86400.0


@dataclass(frozen=True)
class Action:
    """One thing to do, for one node. `reason` is what people read."""

    kind: Literal["name", "baseline", "phase", "take", "free", "cordon", "uncordon", "evict", "grant", "ungrant"]
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
    counts: dict[str, int] = field(default_factory=dict)


def resolve_limit(value: int | str, total: int) -> int:
    """A count, or per cent of `total` rounded up; never less than 1 unless 0 was written."""
    if isinstance(value, int):
        return max(value, 0)
    percent = int(value.rstrip("%"))
    return math.ceil(total * percent / 100) if percent else 0


def decide(nodes: Sequence[NodeState], limits: Limits, *, places_free: int, now: float, paused: bool = False) -> Step:
    """Next actions of one profile. `places_free` is the room left in the cluster's ledger."""
    actions: list[Action] = []
    waits: list[float] = []
    places = min(places_free, limits.max_unavailable - sum(1 for node in nodes if node.holds_place))
    for node in sorted(nodes, key=lambda one: one.name):
        taken = _advance(node, limits, places, now, paused, waits)
        places -= sum(1 for action in taken if action.kind == "take")
        actions += taken
    counts = _counts(nodes)
    halted = _halt(nodes, limits, paused)
    if not halted:
        actions += _begin(nodes, limits, now)
    begun = any(action.kind in ("name", "baseline") for action in actions)
    finished = not begun and all(_is_settled(node) for node in nodes)
    return Step(tuple(actions), halted, finished, min(waits, default=None), counts)


def _is_current(node: NodeState) -> bool:
    return node.phase_target == node.target


def _is_settled(node: NodeState) -> bool:
    return _is_current(node) and node.phase in ("Done", "Failed", "Baseline")


def _counts(nodes: Sequence[NodeState]) -> dict[str, int]:
    counts = {"selected": len(nodes), "done": 0, "inFlight": 0, "failed": 0, "waiting": 0, "unknown": 0}
    for node in nodes:
        # Of a node that is not ready, or whose agent is not, nothing is known now, whatever its last status says.
        counts["unknown"] += not (node.ready and node.agent_ready)
        if node.phase in IN_FLIGHT:
            counts["inFlight"] += 1
        elif _is_current(node) and node.phase in ("Done", "Baseline"):
            counts["done"] += 1
        elif _is_current(node) and node.phase == "Failed":
            counts["failed"] += 1
        else:
            counts["waiting"] += 1
    return counts


def _halt(nodes: Sequence[NodeState], limits: Limits, paused: bool) -> str:
    """Why nothing new may begin; empty if it may."""
    if paused:
        return "Paused: TuningPolicy/default says so"
    failed = sorted(node.name for node in nodes if node.phase == "Failed" and _is_current(node))
    if failed and len(failed) >= limits.failure_threshold:
        return f"FailureThreshold: {len(failed)} failed ({', '.join(failed[:5])})"
    sick = sorted(node.name for node in nodes if not (node.ready and node.agent_ready))
    if sick and len(sick) > limits.max_unhealthy:
        return f"Unhealthy: {len(sick)} of {len(nodes)} nodes or their agents are not ready ({', '.join(sick[:5])})"
    return ""


def _begin(nodes: Sequence[NodeState], limits: Limits, now: float) -> list[Action]:
    """Nodes whose turn it is."""
    in_flight = sum(1 for node in nodes if node.phase in IN_FLIGHT)
    done = sum(1 for node in nodes if _is_current(node) and node.phase in ("Done", "Baseline"))
    waiting = [node for node in nodes if not _is_settled(node) and node.phase not in IN_FLIGHT]
    room = limits.max_parallel_live - in_flight
    if done < limits.canary:
        # Until the canaries have gone through and soaked, only canaries are at work.
        room = min(room, limits.canary - done - in_flight)
    actions = []
    for node in sorted(waiting, key=lambda one: (one.phase == "Failed", one.name)):
        if room <= 0:
            break
        # A node that others took down, or whose agent does not answer, is passed over and waits.
        if not node.ready or not node.agent_ready or (node.unschedulable and not node.cordoned_by_us):
            continue
        if node.held_back:
            continue
        kind: Literal["name", "baseline"] = "baseline" if node.wants_baseline else "name"
        actions.append(Action(kind, node.name, "Applying", node.target, reason=f"its turn, at {now:.0f}"))
        room -= 1
    return actions


def _advance(
    node: NodeState, limits: Limits, places: int, now: float, paused: bool, waits: list[float]
) -> list[Action]:
    """The next step of a node that is on its way, or whose target moved while it was."""
    if node.phase not in IN_FLIGHT:
        return _leave(node, "", "left over") if node.cordoned_by_us or node.holds_place else []
    if not _is_current(node) and node.phase not in HOLDING:
        # Another revision is wanted meanwhile: begin anew with that one, nothing is held yet.
        return [Action("phase", node.name, "Waiting", reason="another revision is wanted")]
    age = now - node.since
    if paused and age > PAUSED_REFRESH_S:
        # Time limits do not run while agents may not write.
        return [Action("phase", node.name, node.phase, reason="paused")]

    def wait_until(limit_s: float) -> None:
        waits.append(max(limit_s - age, 0.0) + 0.1)

    if node.phase == "Applying":
        return _applying(node, limits, age, wait_until)
    if node.phase == "Soaking":
        return _soaking(node, limits, age, wait_until)
    if node.phase == "Pending":
        return _pending(node, limits, places, age, paused, wait_until)
    if node.phase == "Draining":
        return _draining(node, limits, age, wait_until)
    return _granted(node, age, wait_until) if node.phase == "Granted" else _finishing(node, age, wait_until)


def _fail(node: NodeState, reason: str) -> list[Action]:
    """Out of the way: grant taken back, cordon off, place freed, named; the revision before it is named again."""
    ungrant = [Action("ungrant", node.name)] if node.granted_digest else []
    return [*ungrant, *_leave(node, "Failed", reason)]


def _leave(node: NodeState, phase: str, reason: str) -> list[Action]:
    """Every exit takes the cordon off first and frees the place last."""
    actions = []
    if node.cordoned_by_us:
        actions.append(Action("uncordon", node.name))
    if phase:
        actions.append(Action("phase", node.name, phase, reason=reason))
    if node.holds_place:
        actions.append(Action("free", node.name))
    return actions


def _reached(node: NodeState) -> bool:
    if node.wants_baseline:
        return node.at_baseline or bool(node.pending_digest)
    return node.at_revision == node.target


def _applying(node: NodeState, limits: Limits, age: float, wait_until: Callable[[float], None]) -> list[Action]:
    if not node.is_named:
        # We died, or lost a race, between the phase and the revision.
        kind: Literal["name", "baseline"] = "baseline" if node.wants_baseline else "name"
        return [Action(kind, node.name, "Applying", node.target, reason="named again")]
    if node.seen and _reached(node):
        if node.error:
            return _fail(node, node.error)
        if node.pending_digest:
            return [Action("phase", node.name, "Pending", reason=f"needs a {node.pending_disruption} change")]
        if node.drifted == 0:
            return [Action("phase", node.name, "Soaking", reason="live changes made")]
    if age > limits.apply_limit_s:
        state = node.error or (f"{node.drifted} changes not made" if node.seen else "its agent did not answer")
        return _fail(node, f"not done after {limits.apply_limit_s:.0f} s: {state}")
    wait_until(limits.apply_limit_s)
    return []


def _soaking(node: NodeState, limits: Limits, age: float, wait_until: Callable[[float], None]) -> list[Action]:
    if node.drifted or node.error:
        return _fail(node, f"while soaking: {node.error or f'{node.drifted} changes were not made'}")
    if age >= limits.soak_s:
        return [Action("phase", node.name, "Baseline" if node.wants_baseline else "Done", reason="as wanted")]
    wait_until(limits.soak_s)
    return []


def _finishing(node: NodeState, age: float, wait_until: Callable[[float], None]) -> list[Action]:
    if node.ready and node.agent_ready:
        return [Action("ungrant", node.name), *_leave(node, "Soaking", "changed and ready")]
    if age > FINISH_LIMIT_S:
        return _fail(node, "not ready after its changes")
    wait_until(FINISH_LIMIT_S)
    return []


def _pending(
    node: NodeState, limits: Limits, places: int, age: float, paused: bool, wait_until: Callable[[float], None]
) -> list[Action]:
    if not node.pending_digest:
        return [Action("phase", node.name, "Soaking" if node.drifted == 0 else "Applying", reason="nothing heavy left")]
    if age > limits.drain_timeout_s:
        return _fail(node, f"no turn and no idle moment within {limits.drain_timeout_s:.0f} s")
    wait_until(limits.drain_timeout_s)
    foreign = node.unschedulable and not node.cordoned_by_us
    place = node.holds_place or places > 0
    if paused or not place or foreign or not (node.ready and node.agent_ready):
        return []
    if limits.drain_mode == "whenIdle" and node.idle is not True:
        return []
    # The place first, then the phase, then the cordon: a crash between them leaves nothing that is not known.
    take = [] if node.holds_place else [Action("take", node.name)]
    return [
        *take,
        Action("phase", node.name, "Draining", reason=f"drain: {limits.drain_mode}"),
        Action("cordon", node.name),
    ]


def _draining(node: NodeState, limits: Limits, age: float, wait_until: Callable[[float], None]) -> list[Action]:
    if not node.pending_digest:
        return _leave(node, "Soaking", "nothing heavy left")
    if not node.holds_place:
        return _fail(node, "its place in the ledger was lost")
    if node.unschedulable and not node.cordon_is_ours:
        return _leave(node, "Pending", "someone else has cordoned it")
    if not (node.cordoned_by_us and node.unschedulable):
        return [Action("cordon", node.name)]
    if node.idle:
        return [
            Action("grant", node.name, digest=node.pending_digest, disruption=node.pending_disruption),
            Action("phase", node.name, "Granted", reason=f"{node.pending_disruption} change granted"),
        ]
    if age > limits.drain_timeout_s:
        return _fail(node, f"not drained after {limits.drain_timeout_s:.0f} s")
    wait_until(limits.drain_timeout_s)
    if limits.drain_mode == "whenIdle":
        # Something came between the look and the cordon: give the node back and wait for the next idle moment.
        return _leave(node, "Pending", "no longer idle")
    return [Action("evict", node.name, disruption=node.pending_disruption)] if limits.drain_mode == "evict" else []


def _granted(node: NodeState, age: float, wait_until: Callable[[float], None]) -> list[Action]:
    rebooted = node.granted_disruption != "reboot" or node.boot_id != node.boot_id_before
    if node.error:
        return _fail(node, node.error)
    if not node.pending_digest and node.seen and rebooted:
        if node.drifted:
            return _fail(node, f"{node.drifted} changes not made after its granted changes")
        return [Action("phase", node.name, "Finishing", reason="granted changes made")]
    if node.pending_digest and node.granted_digest and node.pending_digest != node.granted_digest:
        if node.attempts >= REFUSED_LIMIT:
            return _fail(node, "its plan moved again after the grant")
        return [
            Action("grant", node.name, digest=node.pending_digest, disruption=node.pending_disruption),
            Action("phase", node.name, "Granted", reason="its plan moved, granted anew"),
        ]
    if age > GRANT_LIMIT_S:
        return _fail(node, f"granted changes not made after {GRANT_LIMIT_S:.0f} s")
    wait_until(GRANT_LIMIT_S)
    return []
