"""The next step of one node that is being changed, or that still holds something. Pure.

A node goes Waiting -> Applying -> Soaking -> Done, and where a grant is needed
Applying -> Pending -> Draining -> Granted -> Finishing -> Soaking -> Done.

`give_back` gives back what a node holds outside Draining, Granted and Finishing. It works this out from the objects
each time, since an operator may have died after any write. The grant goes first, then the cordon, then the place. A
grant that the agent has taken cannot be taken back: cordon and place stay until the agent answers, or until the node
is known to have rebooted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tuneoperator.decide.rollout_model import DISRUPTIONS, HOLDING, IN_FLIGHT, Action, Limits, NodeState

FINISH_LIMIT_S = 600.0
REFUSED_LIMIT = 2
PAUSED_REFRESH_S = 60.0

Wait = Callable[[float], None]


@dataclass(frozen=True)
class Stops:
    """What holds a roll-out back: a pause, when agents may not write, or a halt, when nothing new begins."""

    paused: bool = False
    halted: bool = False


def advance(node: NodeState, limits: Limits, places: int, now: float, stops: Stops, waits: list[float]) -> list[Action]:
    """The next actions of one node; `places` is the room in the ledger. Appends to `waits` when to check again."""
    if node.phase not in HOLDING:
        leftover = give_back(node, limits, now, waits)
        if leftover is not None:
            return leftover
    course = _new_course(node, stops)
    if course is not None:
        return course
    age = now - node.since
    if stops.paused and age > PAUSED_REFRESH_S:
        # Time limits do not run while agents may not write.
        return [Action("phase", node.name, node.phase, reason="paused")]

    def wait_until(limit_s: float) -> None:
        waits.append(max(limit_s - age, 0.0) + 0.1)

    if node.phase == "Applying":
        return _applying(node, limits, age, wait_until)
    if node.phase == "Soaking":
        return _soaking(node, limits, age, wait_until)
    if node.phase == "Pending":
        return _pending(node, limits, 0 if stops.halted else places, age, stops, wait_until)
    if node.phase == "Draining":
        return _draining(node, limits, age, wait_until)
    return _granted(node, limits, age, wait_until) if node.phase == "Granted" else _finishing(node, age, wait_until)


def _new_course(node: NodeState, stops: Stops) -> list[Action] | None:
    """How a node leaves its course: it failed, something else is wanted, or nothing may begin. None otherwise."""
    if node.phase == "Failed" and node.is_current and node.is_named and not node.is_nobodys and node.previous:
        # Back to what it had; its agent repairs drift against that again.
        return [Action("revert", node.name, revision=node.previous)] if node.previous != node.target else []
    if node.phase not in IN_FLIGHT:
        return []
    drains = node.phase == "Draining" and not node.granted_digest and not node.in_hand
    if not node.is_current and (node.phase not in HOLDING or drains):
        # Another revision is wanted now: start again with that one.
        return _leave(node, "Waiting", "another revision is wanted")
    if drains and (stops.paused or stops.halted):
        # Nothing is granted now, so do not keep the node from its users.
        return _leave(node, "Pending", "nothing new begins now")
    return None


def give_back(node: NodeState, limits: Limits, now: float, waits: list[float]) -> list[Action] | None:
    """Give back grant, cordon and place of a node with no change under way. None if it holds nothing to give back."""
    if not (node.granted_digest or node.in_hand or node.cordoned_by_us):
        # A place may be taken ahead of the phase that needs it; `_pending` gives it back if that never comes.
        needs_place = node.phase == "Pending" and node.is_current
        return [Action("free", node.name)] if node.holds_place and not needs_place else None
    if node.in_hand:
        return []
    if node.cordoned_by_us and not node.answered and now - node.cordoned_since < limits.grant_limit_s:
        # Its NodeTuning was recreated: what the agent was doing for the old one is not known until it answers.
        waits.append(limits.grant_limit_s - (now - node.cordoned_since) + 0.1)
        return []
    return _exit(node)


def _exit(node: NodeState) -> list[Action]:
    actions = []
    if node.granted_digest:
        actions.append(Action("ungrant", node.name))
    if node.cordoned_by_us:
        actions.append(Action("uncordon", node.name))
    if node.holds_place:
        actions.append(Action("free", node.name))
    return actions


def _leave(node: NodeState, phase: str, reason: str) -> list[Action]:
    """Leave a phase: take back the grant, then record the new phase, then give back the cordon and the place."""
    said = Action("phase", node.name, phase, reason=reason)
    if node.in_hand:
        return [said]
    actions = _exit(node)
    ungrant = [action for action in actions if action.kind == "ungrant"]
    return [*ungrant, said, *(action for action in actions if action.kind != "ungrant")]


def _fail(node: NodeState, reason: str) -> list[Action]:
    """Move the node to Failed, with the reason; its previous revision is then named again."""
    return _leave(node, "Failed", reason)


def _reached(node: NodeState) -> bool:
    if node.is_nobodys:
        return node.at_baseline or bool(node.proposed_digest)
    return node.at_revision == node.target


def _applying(node: NodeState, limits: Limits, age: float, wait_until: Wait) -> list[Action]:
    if age > limits.apply_limit_s:
        state = node.error or (f"{node.not_as_wanted} changes not made" if node.seen else "its agent did not answer")
        return _fail(node, f"not done after {limits.apply_limit_s:.0f} s: {state}")
    wait_until(limits.apply_limit_s)
    if not node.is_named:
        # The operator died, or lost a race, after setting the phase and before naming the revision.
        kind: Literal["name", "baseline"] = "baseline" if node.is_nobodys else "name"
        return [Action(kind, node.name, "Applying", node.target, reason="named again")]
    if node.seen and node.refusal:
        return _fail(node, f"refused by its agent: {node.refusal}")
    if node.seen and _reached(node):
        if node.error:
            return _fail(node, node.error)
        if node.proposed_digest:
            if node.proposed_disruption not in DISRUPTIONS:
                return _fail(node, f"its agent proposes a change of an unknown class {node.proposed_disruption!r}")
            return [Action("phase", node.name, "Pending", reason=f"needs a {node.proposed_disruption} change")]
        if node.not_as_wanted == 0:
            return [Action("phase", node.name, "Soaking", reason="live changes made")]
    return []


def _soaking(node: NodeState, limits: Limits, age: float, wait_until: Wait) -> list[Action]:
    if not node.is_named:
        return _fail(node, "another revision was named while it was soaking")
    if node.not_as_wanted or node.error:
        return _fail(node, f"while soaking: {node.error or f'{node.not_as_wanted} changes were not made'}")
    if node.proposed_digest:
        return [Action("phase", node.name, "Pending", reason=f"needs a {node.proposed_disruption} change")]
    if age >= limits.soak_s:
        return [Action("phase", node.name, "Baseline" if node.is_nobodys else "Done", reason="as wanted")]
    wait_until(limits.soak_s)
    return []


def _finishing(node: NodeState, age: float, wait_until: Wait) -> list[Action]:
    if age > FINISH_LIMIT_S:
        return _fail(node, "not ready after its changes")
    wait_until(FINISH_LIMIT_S)
    if node.ready and node.agent_ready and not node.in_hand:
        return _leave(node, "Soaking", "changed and ready")
    return []


def _pending(node: NodeState, limits: Limits, places: int, age: float, stops: Stops, wait_until: Wait) -> list[Action]:
    if not node.proposed_digest:
        return [
            Action(
                "phase",
                node.name,
                "Soaking" if node.not_as_wanted == 0 else "Applying",
                reason="nothing is left that needs a grant",
            )
        ]
    if age > limits.drain_timeout_s:
        return _fail(node, f"did not get a turn or become idle within {limits.drain_timeout_s:.0f} s")
    wait_until(limits.drain_timeout_s)
    if node.proposed_disruption not in DISRUPTIONS:
        return _fail(node, f"its agent proposes a change of an unknown class {node.proposed_disruption!r}")
    place = (node.holds_place and not stops.halted) or places > 0
    waits_for_idle = limits.drain_mode == "whenIdle" and node.idle is not True
    usable = node.ready and node.agent_ready and not node.unschedulable
    if stops.paused or not place or not usable or waits_for_idle:
        # A place that the node cannot use now goes to another node.
        return [Action("free", node.name)] if node.holds_place else []
    # First the place, then the phase, then the cordon: a crash between them leaves nothing unrecorded.
    take = [] if node.holds_place else [Action("take", node.name)]
    return [
        *take,
        Action("phase", node.name, "Draining", reason=f"drain: {limits.drain_mode}"),
        Action("cordon", node.name),
    ]


def _draining(node: NodeState, limits: Limits, age: float, wait_until: Wait) -> list[Action]:
    if node.granted_digest or node.in_hand:
        # The operator died between the grant and the phase that records it.
        return [Action("phase", node.name, "Granted", reason=f"{node.granted_disruption} change granted")]
    if not node.proposed_digest:
        return _leave(node, "Soaking", "nothing is left that needs a grant")
    limit_s, late = limits.drain_timeout_s, "not drained"
    if not node.cordoned_by_us:
        limit_s, late = min(limit_s, limits.apply_limit_s), "could not be cordoned"
    if age > limit_s:
        return _fail(node, f"{late} after {limit_s:.0f} s")
    wait_until(limit_s)
    if node.unschedulable and not node.cordoned_by_us:
        return _leave(node, "Pending", "someone else has cordoned it")
    if not node.holds_place:
        return [Action("take", node.name)]
    if not (node.cordoned_by_us and node.unschedulable):
        return [Action("cordon", node.name)]
    return _emptied(node, limits)


def _emptied(node: NodeState, limits: Limits) -> list[Action]:
    """Once a node that we have cordoned is empty, grant its change."""
    if node.idle is None:
        return []
    if node.idle:
        # A grant is valid for one boot: kubelet and agent must report the same one.
        return _grant(node, f"{node.proposed_disruption} change granted") if _is_one_boot(node) else []
    if limits.drain_mode == "whenIdle":
        # A pod arrived between the check and the cordon: give the node back and wait until it is idle again.
        return _leave(node, "Pending", "no longer idle")
    return [Action("evict", node.name, disruption=node.proposed_disruption)] if limits.drain_mode == "evict" else []


def _is_one_boot(node: NodeState) -> bool:
    return node.kubelet_boot_id == node.boot_id


def _grant(node: NodeState, reason: str) -> list[Action]:
    return [
        Action("grant", node.name, digest=node.proposed_digest, disruption=node.proposed_disruption),
        Action("phase", node.name, "Granted", reason=reason),
    ]


def _granted(node: NodeState, limits: Limits, age: float, wait_until: Wait) -> list[Action]:
    if age > limits.grant_limit_s:
        return _fail(node, f"granted changes not made after {limits.grant_limit_s:.0f} s")
    wait_until(limits.grant_limit_s)
    if node.in_hand:
        return []
    if not node.is_named and node.is_current:
        return _fail(node, "another revision was named while it had a grant")
    if node.error or node.refusal:
        return _fail(node, node.error or node.refusal)
    rebooted = node.granted_disruption != "reboot" or node.boot_id != node.granted_boot_id
    if not node.proposed_digest and node.seen and rebooted:
        if node.not_as_wanted:
            return _fail(node, f"{node.not_as_wanted} changes still not made after the granted changes")
        return [Action("phase", node.name, "Finishing", reason="granted changes made")]
    return _granted_anew(node)


def _granted_anew(node: NodeState) -> list[Action]:
    """Take back an unused grant that no longer fits the plan; the node drains again for the new plan."""
    ungrant = [Action("ungrant", node.name)] if node.granted_digest else []
    moved = node.proposed_digest != node.granted_digest or node.boot_id != node.granted_boot_id
    if node.proposed_digest and moved:
        if node.attempts >= REFUSED_LIMIT or node.proposed_disruption not in DISRUPTIONS:
            return _fail(node, "its plan changed again after the grant")
        return [*ungrant, Action("phase", node.name, "Draining", reason="its plan changed")]
    if not (node.cordoned_by_us and node.unschedulable):
        return [*ungrant, Action("phase", node.name, "Draining", reason="it was uncordoned before it took its grant")]
    return []
