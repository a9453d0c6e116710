"""A plan: what would be written, what would not, and the digest of the changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.values import Disruption, Setting, Subject

SCHEMA_PLAN = "tuneagent.dev/plan/v1"


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the running value, and the value of the next boot.

    `raw` is the running value's own text where writing `live` back would spell it differently, as spaces for tabs.
    """

    live: Annotated[Setting, Meta(description="The running value.")] = None
    persisted: Annotated[Setting, Meta(description="The value of the next boot.")] = None
    raw: Annotated[
        str | msgspec.UnsetType,
        Meta(
            description="Text of the running value where writing `live` back would spell it differently, as spaces for "
            "tabs."
        ),
    ] = msgspec.UNSET


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One write that a plan would make. `persistence` is the path of a file that keeps it, or what ends it."""

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[Subject, Meta(description="The setting within its tunable.")]
    prior: Annotated[Prior, Meta(description="What was found.")]
    desired: Annotated[Setting, Meta(description="The value to be written.")]
    disruption: Disruption
    persistence: Annotated[str, Meta(description="Path of the file that keeps it across boots, or what ends it.")]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something wanted that the plan will not do, with the reason."""

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[Subject, Meta(description="The setting within its tunable.")]
    reason: Annotated[str, Meta(description="Why it is not done.")]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Ordered changes. The digest covers the changes alone, so that load on the host cannot change it."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_PLAN
    digest: Annotated[str, Meta(description="Hash of the changes; `apply --digest` refuses any other plan.")]
    changes: Annotated[tuple[Change, ...], Meta(description="What is written, in this order.")]
    refused: Annotated[tuple[Refusal, ...], Meta(description="What is wanted and not done.")] = ()


def digest_of(changes: Iterable[Change]) -> str:
    """Hash of the changes alone: `sha256:` and 32 hexadecimal digits."""
    import hashlib

    encoded = msgspec.json.encode(list(changes), order="sorted")
    return "sha256:" + hashlib.sha256(encoded).hexdigest()[:32]
