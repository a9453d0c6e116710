"""Which nodes a profile selects: Kubernetes label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]


class Requirement(msgspec.Struct, frozen=True):
    """One line of `matchExpressions`."""

    key: Annotated[str, Meta(description="Name of the label.")]
    operator: Annotated[Operator, Meta(description="How the label must relate to `values`.")]
    values: Annotated[
        tuple[str, ...], Meta(description="Values of the label; `Exists` and `DoesNotExist` take none.")
    ] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it. `NotIn` holds for a node without the label, as in Kubernetes."""
        if self.operator == "In":
            return labels.get(self.key) in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.operator == "Exists")


class NodeSelector(msgspec.Struct, frozen=True, rename="camel"):
    """Labels that a node must have. An empty one selects no node."""

    match_labels: Annotated[dict[str, str], Meta(description="Labels with exactly these values.")] = {}
    match_expressions: Annotated[tuple[Requirement, ...], Meta(description="Conditions on labels; all must hold.")] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing, and so selects nothing."""
        return not (self.match_labels or self.match_expressions)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects a node with these labels."""
        if self.is_empty:
            return False
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            one.matches(labels) for one in self.match_expressions
        )
