"""What may proceed now. Pure: the state of all nodes of a profile in, the next actions out.

Naming a revision on a node is the roll-out step. Every step has a time limit; a node that fails is reported, counts
against the failure threshold and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tuneagent.contracts.tuning_profile import NodeCounts

from tuneoperator.decide.advance import Stops, advance
from tuneoperator.decide.rollout_model import IN_FLIGHT, Action, Limits, NodeState, Step


def decide(nodes: Sequence[NodeState], limits: Limits, *, places_free: int, now: float, paused: str = "") -> Step:
    """Next actions of one profile. `places_free`: room left in the cluster's ledger; `paused`: why everything waits."""
    actions: list[Action] = []
    waits: list[float] = []
    halted = _halt(nodes, limits, paused)
    # Down counts as down, whatever the reason: a node that broke by itself leaves less room for changes.
    places = min(places_free, limits.max_unavailable - sum(1 for node in nodes if node.is_down))
    for node in sorted(nodes, key=lambda one: one.name):
        stops = Stops(paused=bool(paused), halted=bool(halted))
        taken = advance(node, limits, places, now, stops, waits)
        places -= sum(1 for action in taken if action.kind == "take")
        actions += taken
    counts = _counts(nodes)
    if not halted:
        actions += _begin(nodes, limits, now)
    begun = any(action.kind in ("name", "baseline") for action in actions)
    finished = not begun and all(node.is_settled for node in nodes)
    return Step(tuple(actions), halted, finished, min(waits, default=None), counts)


def _counts(nodes: Sequence[NodeState]) -> NodeCounts:
    counts = {"done": 0, "in_flight": 0, "failed": 0, "waiting": 0, "unknown": 0}
    for node in nodes:
        # The state of a node that is not ready, or whose agent is not, is unknown, whatever its last status says.
        counts["unknown"] += not (node.ready and node.agent_ready)
        if node.phase in IN_FLIGHT:
            counts["in_flight"] += 1
        elif node.is_current and node.phase in ("Done", "Baseline"):
            counts["done"] += 1
        elif node.is_current and node.phase == "Failed":
            counts["failed"] += 1
        else:
            counts["waiting"] += 1
    return NodeCounts(selected=len(nodes), **counts)


def _halt(nodes: Sequence[NodeState], limits: Limits, paused: str) -> str:
    """Why nothing new may begin; empty if it may."""
    if paused:
        return paused
    failed = sorted(node.name for node in nodes if node.phase == "Failed" and node.is_current)
    if failed and len(failed) >= limits.failure_threshold:
        return f"FailureThreshold: {len(failed)} failed ({', '.join(failed[:5])})"
    sick = sorted(node.name for node in nodes if not (node.ready and node.agent_ready))
    if sick and len(sick) > limits.max_unhealthy:
        return f"Unhealthy: {len(sick)} of {len(nodes)} nodes or their agents are not ready ({', '.join(sick[:5])})"
    return ""


def _begin(nodes: Sequence[NodeState], limits: Limits, now: float) -> list[Action]:
    """Nodes whose turn it is."""
    in_flight = sum(1 for node in nodes if node.phase in IN_FLIGHT)
    done = sum(1 for node in nodes if node.is_current and node.phase in ("Done", "Baseline"))
    waiting = [node for node in nodes if not node.is_settled and node.phase not in IN_FLIGHT]
    room = limits.max_parallel_live - in_flight
    if done < limits.canary:
        # Until the canaries have been changed and have soaked, only canaries are in flight.
        room = min(room, limits.canary - done - in_flight)
    actions = []
    for node in sorted(waiting, key=lambda one: (one.phase == "Failed", one.name)):
        if room <= 0:
            break
        # A node that others took down, or whose agent does not answer, is skipped and waits.
        if not node.ready or not node.agent_ready or (node.unschedulable and not node.cordoned_by_us):
            continue
        # What the node still holds from an earlier change is given back first.
        if node.held_back or node.in_hand or node.cordoned_by_us or node.granted_digest:
            continue
        kind: Literal["name", "baseline"] = "baseline" if node.is_nobodys else "name"
        actions.append(Action(kind, node.name, "Applying", node.target, reason=f"its turn, at {now:.0f}"))
        room -= 1
    return actions
