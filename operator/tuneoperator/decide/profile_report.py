"""What a TuningProfile's status says. Pure; every condition is reported again for each generation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tuneagent.contracts.object_meta import Condition

from tuneoperator.decide.accept import Accepted
from tuneoperator.decide.rollout_model import NodeState, Step

NAMES_SHOWN = 5


@dataclass
class Selection:
    """Which nodes a profile selects and which it governs, gathered in one pass over all nodes."""

    matched: int = 0
    governed: list[str] = field(default_factory=list)
    # Profiles that govern nodes which this profile selects.
    winners: set[str] = field(default_factory=set)
    # Profiles of equal priority, and nodes that both they and this profile select.
    tied: set[str] = field(default_factory=set)
    tied_nodes: list[str] = field(default_factory=list)
    # Those of the tied nodes that another profile governs.
    lost: list[str] = field(default_factory=list)


def acceptance(answer: Accepted | tuple[str, ...]) -> Condition:
    """The condition Accepted, with every fault."""
    if isinstance(answer, Accepted):
        return Condition("Accepted", "True", "Valid")
    return Condition("Accepted", "False", "Invalid", "; ".join(answer))


def rolled_out(
    answer: Accepted | tuple[str, ...], step: Step, states: Collection[NodeState], selection: Selection
) -> Condition:
    """The condition RolledOut: true only where every node that the profile governs is known to be as wanted."""

    def no(reason: str, message: str) -> Condition:
        return Condition("RolledOut", "False", reason, message)

    if not isinstance(answer, Accepted):
        return no("NotAccepted", "the current profile is not accepted; its nodes keep the revision that they have")
    if not selection.governed and not states:
        return no("NoNodes", _nobody(answer, selection))
    if step.halted:
        return no(step.halted.partition(":")[0], step.halted)
    if not step.finished:
        counts = step.counts
        return no(
            "InProgress",
            f"{counts.done} of {counts.selected} nodes are done, {counts.in_flight} under way, "
            f"{counts.waiting} waiting, {counts.failed} failed",
        )
    reason, nodes = _wrong(states, selection)
    if reason:
        return no(reason, shown(nodes))
    return Condition("RolledOut", "True", "Done", f"{len(states)} nodes are as wanted")


def _wrong(states: Collection[NodeState], selection: Selection) -> tuple[str, list[str]]:
    """Why a finished roll-out is not a complete success, and the nodes concerned."""
    failed = sorted(node.name for node in states if node.is_current and node.phase == "Failed")
    missing = sorted(set(selection.governed) - {node.name for node in states})
    unready = sorted(node.name for node in states if not (node.ready and node.agent_ready))
    troubled = [f"{node.name} {node.trouble}" for node in sorted(states, key=lambda one: one.name) if node.trouble]
    for reason, nodes in (
        ("NodesFailed", failed),
        ("NodesMissing", [f"{name} has no NodeTuning" for name in missing]),
        ("NodesNotReady", [f"{name} or its agent is not ready" for name in unready]),
        ("NodesNotAsWanted", troubled),
        ("Tie", [f"{name} is governed by another profile of equal priority" for name in selection.lost]),
    ):
        if nodes:
            return reason, nodes
    return "", []


def _nobody(one: Accepted, selection: Selection) -> str:
    if one.candidate.selector.is_empty and not one.candidate.all_nodes:
        return "it selects no node: nodeSelector is missing or empty; to select every node set `allNodes: true`"
    if selection.matched:
        return f"the {selection.matched} nodes that it selects are governed by {shown(sorted(selection.winners))}"
    return "no node has the labels that it selects"


def others(selection: Selection, old: Collection[str], refused: Mapping[str, str]) -> list[Condition]:
    """The conditions AgentTooOld, Conflict and WritesRefused."""
    names = sorted(old)
    found = [_flag("AgentTooOld", bool(names), "Withheld", f"agents that do not know all its tunables: {shown(names)}")]
    tie = f"{shown(selection.tied_nodes)}: also selected with equal priority by {shown(sorted(selection.tied))}"
    found.append(_flag("Conflict", bool(selection.tied), "Tie", tie))
    told = [f"{node}: {reason}" for node, reason in sorted(refused.items())]
    found.append(_flag("WritesRefused", bool(told), "Refused", shown(told)))
    return found


def _flag(kind: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(kind, "True", reason, message) if holds else Condition(kind, "False", "None")


def shown(names: Collection[str]) -> str:
    """The first few names, and how many there are."""
    first = list(names)[:NAMES_SHOWN]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
