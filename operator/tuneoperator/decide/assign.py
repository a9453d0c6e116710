"""Which profile governs which node. Pure: the same objects give the same answer in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tuneagent.contracts.node_selector import NodeSelector


@dataclass(frozen=True)
class Candidate:
    """A profile that is accepted: which nodes it asks for, and its priority."""

    name: str
    selector: NodeSelector
    priority: int
    all_nodes: bool = False

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the profile selects a node with these labels."""
        return self.all_nodes or self.selector.matches(labels)


@dataclass(frozen=True)
class Assignment:
    """The profile of a node, None for none; `conflict` names all profiles that tied for the node."""

    profile: str | None
    conflict: tuple[str, ...] = ()


def assign(labels: Mapping[str, str], candidates: Iterable[Candidate], current: str | None) -> Assignment:
    """The profile of highest priority; a tie is a conflict, and keeps the current one or else takes the first name."""
    selected = [one for one in candidates if one.selects(labels)]
    if not selected:
        return Assignment(None)
    top = max(one.priority for one in selected)
    names = sorted(one.name for one in selected if one.priority == top)
    chosen = current if current in names else names[0]
    return Assignment(chosen, tuple(names) if len(names) > 1 else ())
