"""A plan: what would be written, what would not, and the digest of the changes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tuneagent.contracts.values import Disruption, Setting, Subject

SCHEMA_PLAN = "tuneagent.dev/plan/v1"


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the running value, and the value of the next boot.

    `raw` is the running value's own text where writing `live` back would spell it otherwise, as blanks for tabs.
    """

    live: Setting = None
    persisted: Setting = None
    raw: str | msgspec.UnsetType = msgspec.UNSET


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One write that a plan would make. `persistence` is the path of a file that keeps it, or what ends it."""

    tunable: str
    subject: Subject
    prior: Prior
    desired: Setting
    disruption: Disruption
    persistence: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something wanted that the plan will not do, with the reason."""

    tunable: str
    subject: Subject
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Ordered changes. The digest covers the changes alone, so that load on the host cannot move it."""

    schema: str = SCHEMA_PLAN
    digest: str
    changes: tuple[Change, ...]
    refused: tuple[Refusal, ...] = ()


def digest_of(changes: Iterable[Change]) -> str:
    """Hash of the changes alone: `sha256:` and 32 hexadecimal digits."""
    import hashlib

    encoded = msgspec.json.encode(list(changes), order="sorted")
    return "sha256:" + hashlib.sha256(encoded).hexdigest()[:32]
