"""Which profile governs which node. Pure: the same objects give the same answer in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A profile that is accepted: its selector and priority."""

    name: str
    selector: Mapping[str, Any]
    priority: int


@dataclass(frozen=True)
class Assignment:
    """The profile of a node, None for none; `conflict` names equals among which the present one was kept."""

    profile: str | None
    conflict: tuple[str, ...] = ()


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a Kubernetes label selector selects these labels; an empty one selects all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_matches_expression(one, labels) for one in selector.get("matchExpressions") or ())


def _matches_expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression.get("key", ""), expression.get("operator")
    values = expression.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    # An operator that is not known selects nothing: a wrong selector must not select the whole cluster.
    return key not in labels if operator == "DoesNotExist" else False


def assign(labels: Mapping[str, str], candidates: Iterable[Candidate], current: str | None) -> Assignment:
    """The profile of highest priority; a tie keeps the current one, else takes the first name, and is a conflict."""
    selected = [one for one in candidates if matches(one.selector, labels)]
    if not selected:
        return Assignment(None)
    top = max(one.priority for one in selected)
    names = sorted(one.name for one in selected if one.priority == top)
    chosen = current if current in names else names[0]
    return Assignment(chosen, tuple(names) if len(names) > 1 else ())
