"""What a node says to the operator and to people: proposals, findings, events. Pure but for naming a culprit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec

from tuneagent.contracts.kubernetes_writes import Event, EventMeta, EventSource, Involved
from tuneagent.contracts.node_tuning import (
    FINDINGS_LIMIT,
    KIND,
    MESSAGE_LIMIT,
    FindingSummary,
    ProposalSummary,
)
from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change, Plan, digest_of
from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.tuning_profile import API_VERSION
from tuneagent.contracts.values import Disruption, Lifetime
from tuneagent.engine.assess import Assessment
from tuneagent.facts.one_pass import Facts
from tuneagent.tunables.base import AnyTunable

FINDINGS_BYTES = 16 * 1024

# What a change is after, priors aside: tunable, subject, and the value wanted as JSON.
TargetKey = tuple[str, str, bytes]


class Proposal(msgspec.Struct, frozen=True):
    """What the node would do if it were granted, kept in the state folder. Its digest is what a grant names."""

    digest: str
    disruption: Disruption
    changes: tuple[Change, ...] = ()

    def covers(self, changes: Iterable[Change]) -> bool:
        """Whether every one of these changes was proposed, priors aside."""
        return {target_key(one) for one in changes} <= {target_key(one) for one in self.changes}

    @property
    def summary(self) -> ProposalSummary:
        """What `status.node.proposal` says of it."""
        return ProposalSummary(self.digest, self.disruption.value, len(self.changes))


def refusals(assessments: Iterable[Assessment], registry: Mapping[str, AnyTunable]) -> str:
    """Why this host will not make changes that its profile wants: waiting does not help. Empty for none."""
    told = [
        f"{item.finding.tunable} {item.finding.subject}: {item.refusal}"
        for item in assessments
        if item.refusal
        and item.finding.verdict is Verdict.DRIFTED
        and registry[item.finding.tunable].lifetime is not Lifetime.PROCESS
    ]
    return "; ".join(told)


def target_key(change: Change) -> TargetKey:
    """What a change is after, priors aside."""
    return change.tunable, change.subject, msgspec.json.encode(change.desired, order="sorted")


def needs_grant(plan: Plan) -> list[Change]:
    """Changes that need a grant."""
    return [change for change in plan.changes if change.disruption is not Disruption.LIVE]


def proposal_of(changes: list[Change]) -> Proposal | None:
    """A proposal of these changes; None for none."""
    if not changes:
        return None
    return Proposal(digest_of(changes), max((one.disruption for one in changes), key=lambda d: d.rank), tuple(changes))


def waits_for_reboot(report: Report) -> bool:
    """Whether something is written that only a reboot brings about."""
    return any(
        finding.verdict is Verdict.PENDING and finding.disruption is Disruption.REBOOT for finding in report.findings
    )


def not_as_wanted(plan: Plan, assessments: Iterable[Assessment], registry: Mapping[str, AnyTunable]) -> int:
    """Settings that are not as wanted, or not known to be, and that wait for no grant.

    Reports do not count, nor do processes, which come and go.
    """
    proposed = {(change.tunable, change.subject) for change in needs_grant(plan)}
    found = {(change.tunable, change.subject) for change in plan.changes}
    for item in assessments:
        finding, tunable = item.finding, registry[item.finding.tunable]
        counts = not tunable.report_only and tunable.lifetime is not Lifetime.PROCESS
        if counts and finding.verdict in (Verdict.DRIFTED, Verdict.CONFLICT, Verdict.UNKNOWN):
            found.add((finding.tunable, finding.subject))
    return len(found - proposed)


def failed_changes(outcomes: Iterable[Outcome]) -> list[str]:
    """One sentence for each change that failed."""
    return [f"{one.subject}: {one.reason}" for one in outcomes if one.result == "failed"]


def status_findings(findings: list[Finding]) -> tuple[FindingSummary, ...]:
    """At most 50 findings and 16 KiB of them; a last one says how many more there are."""
    chosen: list[FindingSummary] = []
    size = 0
    for number, finding in enumerate(findings):
        item = FindingSummary(
            tunable=finding.tunable,
            subject=finding.subject,
            verdict=finding.verdict.value,
            severity=finding.severity.value,
            found=_short(finding.observed),
            wanted=_short(finding.desired),
            reason=finding.advice[:200],
        )
        size += len(msgspec.json.encode(item))
        if number >= FINDINGS_LIMIT - 1 or size > FINDINGS_BYTES - 256:
            more = f"and {len(findings) - number} more"
            chosen.append(FindingSummary(tunable="", subject=more, verdict="unknown", severity="info"))
            break
        chosen.append(item)
    return tuple(chosen)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:120]


def drift_message(finding: Finding, tunable: AnyTunable, facts: Facts) -> str:
    """Setting, value wanted, value found, and who may have changed it."""
    culprit = tunable.culprit(facts, finding.subject, finding.observed)
    return (
        f"{finding.tunable} {finding.subject}: wanted {_short(finding.desired)}, found {_short(finding.observed)}; "
        f"changed by {culprit or 'hand or a program that keeps no file: nothing on this host sets that value'}"
    )


def event_of(node: str, reason: str, message: str) -> Event:
    """An Event about the NodeTuning."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Event(
        metadata=EventMeta(f"{node}."),
        involved_object=Involved(API_VERSION, KIND, node),
        reason=reason,
        message=message[:MESSAGE_LIMIT],
        type="Warning",
        source=EventSource("tuneagent", node),
        reporting_component="tuneagent.dev/agent",
        reporting_instance=node,
        first_timestamp=stamp,
        last_timestamp=stamp,
    )
