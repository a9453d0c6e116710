"""Which profile governs which node now, gathered over all nodes in one pass. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneagent.contracts.kubernetes import Node
from tuneagent.contracts.node_tuning import NodeTuning

from tuneoperator.decide.accept import Accepted
from tuneoperator.decide.assign import assign
from tuneoperator.decide.profile_report import Selection


@dataclass
class Assigned:
    """The result of the last pass over all nodes."""

    answers: dict[str, Accepted | tuple[str, ...]] = field(default_factory=dict)
    profile_of: dict[str, str | None] = field(default_factory=dict)
    selections: dict[str, Selection] = field(default_factory=dict)

    def accepted(self, name: str) -> Accepted | None:
        """A profile that may be rolled out."""
        answer = self.answers.get(name)
        return answer if isinstance(answer, Accepted) else None

    @property
    def governed(self) -> list[str]:
        """Nodes that some profile governs."""
        return [node for node, profile in self.profile_of.items() if profile is not None]

    def add(self, node: Node, current: str | None) -> None:
        """Assign one node, which `current` governed until now."""
        name = node.metadata.name
        if current in self.answers and self.accepted(str(current)) is None:
            # A profile that exists but is not valid now keeps its nodes as they are: a typo is not an instruction.
            self.profile_of[name] = current
            self.selections[str(current)].governed.append(name)
            return
        candidates = [one.candidate for one in self.answers.values() if isinstance(one, Accepted)]
        result = assign(node.metadata.labels, candidates, current)
        self.profile_of[name] = result.profile
        for candidate in candidates:
            if not candidate.selects(node.metadata.labels):
                continue
            selection = self.selections[candidate.name]
            selection.matched += 1
            selection.winners.add(str(result.profile))
            if candidate.name in result.conflict:
                selection.tied |= set(result.conflict) - {candidate.name}
                selection.tied_nodes.append(name)
                selection.lost += [name] if candidate.name != result.profile else []
        if result.profile is not None:
            self.selections[result.profile].governed.append(name)


def too_old(tuning: NodeTuning, one: Accepted | None) -> list[str]:
    """Tunables of the profile that the node's agent does not know; none until it has reported what it knows."""
    known = tuning.status.node.tunables
    return sorted(set(one.profile.spec.tune) - set(known)) if one and known else []
