"""A playbook: hypotheses about one workload that anyone can try on a host of theirs, and what came of trying them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.contracts.proof import Better, MetricProof, Proof
from tuneagent.contracts.report import HostName

SCHEMA_PLAYBOOK_RESULT = "tuneagent.dev/playbook-result/v1"
Outcome = Literal["kept", "undone", "skipped", "failed"]


class ReadMetric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of the playbook's command."""

    read: Annotated[str, Meta(description="As `prove --metric`: an expression, json:PATH or file:PATH.")]
    better: Annotated[Better, Meta(description="Which direction is better.")] = "higher"


class Measure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured where the user gives no command."""

    probes: Annotated[tuple[str, ...], Meta(description="Probes, NAME or NAME:CASE.")] = ()
    command: Annotated[str, Meta(description="A command of the shell.")] = ""
    metrics: Annotated[tuple[ReadMetric, ...], Meta(description="What is read of the command.")] = ()


class Hypothesis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change that may help."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Short name.")]
    tune: Annotated[dict[str, object], Meta(min_length=1, description="What it sets, as `spec.tune` of a profile.")]
    expects: Annotated[str, Meta(min_length=1, description="What should move, and by how much.")]
    source: Annotated[str, Meta(min_length=1, description="Who says so.")]
    dispute: Annotated[str, Meta(description="Who says otherwise, or what it may cost.")] = ""


class PlaybookSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The workload, how it is measured, and the hypotheses in their order."""

    title: Annotated[str, Meta(min_length=1, description="What it is about, in a line.")]
    workload: Annotated[str, Meta(min_length=1, description="Work that it is for.")]
    applies_to: Annotated[str, Meta(min_length=1, description="Hardware that it applies to.")]
    why: Annotated[str, Meta(min_length=1, description="Why these settings matter to that work.")]
    measure: Measure
    hypotheses: Annotated[tuple[Hypothesis, ...], Meta(min_length=1, max_length=32)]
    limit_seconds: Annotated[int, Meta(ge=10, le=86400, description="Time for each hypothesis.")] = 300
    margin_percent: Annotated[float, Meta(ge=0.1, le=50, description="Smallest difference that matters.")] = 2.0


class PlaybookMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its name."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Name of the playbook.")]


class Playbook(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A playbook's file."""

    api_version: Annotated[Literal["tuneagent.dev/v1alpha1"], Meta(description="Version of the format.")]
    kind: Annotated[Literal["Playbook"], Meta(description="Always `Playbook`.")]
    metadata: PlaybookMetadata
    spec: PlaybookSpec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one hypothesis, or of leaving it out in the end."""

    name: Annotated[str, Meta(description="Name of the hypothesis.")]
    outcome: Outcome
    why: Annotated[str, Meta(description="Why.")]
    settings: Annotated[int, Meta(description="How many settings it changed on this host.")] = 0
    metrics: tuple[MetricProof, ...] = ()


class PlaybookResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `playbook run -o json` prints, and a line of `playbooks/results/`."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_PLAYBOOK_RESULT
    playbook: Annotated[str, Meta(description="Name of the playbook.")]
    host: HostName
    processor: Annotated[str | None, Meta(description="Model of its CPUs.")]
    taken: Annotated[float, Meta(description="When it began, in seconds since 1970.")]
    steps: Annotated[tuple[Step, ...], Meta(description="The hypotheses in their order.")]
    final: Annotated[Proof | None, Meta(description="All winners against the host without them; null without one.")]
    left_out: Annotated[tuple[Step, ...], Meta(description="All winners against all but this one, if asked for.")] = ()
    profile: Annotated[str, Meta(description="The winners as a profile, with their evidence; empty without one.")] = ""
