"""The ledger: which nodes are, or are about to be, out of service for a change. Pure, except for its ConfigMap format.

It is an object of its own that agents cannot read. If it is lost it is rebuilt: a node with our cordon or with a grant
holds a place, whatever the ledger says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from tuneagent.contracts.kubernetes import ConfigMap, Node
from tuneagent.contracts.node_tuning import NodeTuning

from tuneoperator.decide.state import CORDON_ANNOTATION, is_in_hand

NAME = "tuneagent-ledger"
KEY = "places"


class Place(msgspec.Struct, frozen=True):
    """A place that a node holds: for which profile, since when (seconds since 1970)."""

    profile: str = ""
    since: float = 0.0


_PLACES = msgspec.json.Decoder(dict[str, Place])


def written(found: ConfigMap | None) -> dict[str, Place]:
    """Places that the object lists; none if it is missing or cannot be read, since they can be rebuilt."""
    if found is None:
        return {}
    try:
        return _PLACES.decode(found.data.get(KEY, "{}"))
    except msgspec.MsgspecError:
        return {}


def encoded(places: Mapping[str, Place]) -> str:
    """Places as the object holds them."""
    return msgspec.json.encode(dict(sorted(places.items()))).decode()


def places(found: ConfigMap | None, nodes: Iterable[Node], tunings: Iterable[NodeTuning]) -> dict[str, Place]:
    """Every place that is held: those in the ledger whose nodes exist, and those that the cluster itself shows."""
    existing = {node.metadata.name: node for node in nodes}
    held = {name: place for name, place in written(found).items() if name in existing}
    for name, node in existing.items():
        if CORDON_ANNOTATION in node.metadata.annotations:
            held.setdefault(name, Place())
    for tuning in tunings:
        name = tuning.metadata.name
        if name in existing and (tuning.spec.grant is not None or is_in_hand(tuning, existing[name])):
            held.setdefault(name, Place(tuning.spec.profile))
    return held
