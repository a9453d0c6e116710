"""What a node says to the operator and to people: offers, findings, events. Pure but for the culprit's look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tuneagent.contracts.outcome import Applied
from tuneagent.contracts.plan import Change, Plan, digest_of
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.values import Disruption, Lifetime
from tuneagent.engine.assess import Assessment
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.facts.one_pass import Facts
from tuneagent.node.passes import Pass
from tuneagent.tunables.base import Tunable

FINDINGS_LIMIT = 50
FINDINGS_BYTES = 16 * 1024

TargetKey = tuple[str, str, bytes]


class Proposal(msgspec.Struct, frozen=True):
    """What the node would do if it were granted. Its digest is what a grant names."""

    digest: str
    disruption: Disruption
    changes: tuple[Change, ...] = ()


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """`spec.grant`: leave to make one plan's changes, in one boot. `epoch` tells two grants of one plan apart."""

    digest: str
    disruption: Disruption
    lifetime_s: int = msgspec.field(name="lifetime_s")
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: int = 0


class Taken(msgspec.Struct, frozen=True, rename="camel"):
    """`status.node.taken`: the grant that this node is at work on, until it answers."""

    digest: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    epoch: int = 0


def grant_of(wanted: dict[str, Any] | None) -> Grant | None:
    """The grant of a NodeTuning; None for none, or for one that makes no sense."""
    raw = ((wanted or {}).get("spec") or {}).get("grant")
    try:
        return msgspec.convert(raw, Grant) if raw else None
    except msgspec.ValidationError:
        return None


def taken_of(wanted: dict[str, Any]) -> Taken | None:
    """The grant that an earlier pass of this node has taken, as the server knows it."""
    raw = ((wanted.get("status") or {}).get("node") or {}).get("taken")
    try:
        return msgspec.convert(raw, Taken) if raw else None
    except msgspec.ValidationError:
        return None


def refusals(judged: list[Assessment], registry: Mapping[str, Tunable[Any]]) -> str:
    """Why this host will not make changes that its profile wants: waiting does not mend it. Empty for none."""
    told = [
        f"{item.finding.tunable} {item.finding.subject}: {item.refusal}"
        for item in judged
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
    """An offer of these changes; None for none."""
    if not changes:
        return None
    return Proposal(digest_of(changes), max((one.disruption for one in changes), key=lambda d: d.rank), tuple(changes))


def waits_for_reboot(done: Pass) -> bool:
    """Whether something is written that only a reboot brings about."""
    return any(
        finding.verdict is Verdict.PENDING and finding.disruption is Disruption.REBOOT
        for finding in done.report.findings
    )


def failed_changes(applied: Applied | None) -> list[str]:
    """One sentence for each change that failed."""
    if applied is None:
        return []
    return [f"{one.subject}: {one.reason}" for one in applied.results if one.result == "failed"]


def pending_of(offer: Proposal | None) -> dict[str, Any] | None:
    """What `status.node.pending` says of an offer."""
    if offer is None:
        return None
    return {"digest": offer.digest, "disruption": offer.disruption.value, "changes": len(offer.changes)}


def status_findings(findings: list[Finding]) -> list[dict[str, Any]]:
    """At most 50 findings and 16 KiB of them; a last one says how many more there are."""
    chosen: list[dict[str, Any]] = []
    size = 0
    for number, finding in enumerate(findings):
        item = {
            "tunable": finding.tunable,
            "subject": finding.subject,
            "verdict": finding.verdict.value,
            "severity": finding.severity.value,
            "found": _short(finding.observed),
            "wanted": _short(finding.desired),
            "reason": finding.advice[:200],
        }
        size += len(msgspec.json.encode(item))
        if number >= FINDINGS_LIMIT - 1 or size > FINDINGS_BYTES - 256:
            left = len(findings) - number
            chosen.append({"tunable": "", "subject": f"and {left} more", "verdict": "unknown", "severity": "info"})
            break
        chosen.append(item)
    return chosen


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:120]


def drift_message(finding: Finding, session: HostTuner) -> str:
    """Setting, value wanted, value found, and who may have changed it."""
    culprit = session.registry[finding.tunable].culprit(Facts(session.host), finding.subject, finding.observed)
    return (
        f"{finding.tunable} {finding.subject}: wanted {_short(finding.desired)}, found {_short(finding.observed)}; "
        f"changed by {culprit or 'hand or a program that keeps no file: nothing on this host sets that value'}"
    )


def event_of(node: str, reason: str, message: str) -> dict[str, Any]:
    """A core/v1 Event about the NodeTuning."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{node}.", "namespace": "default"},
        "involvedObject": {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "NodeTuning", "name": node},
        "reason": reason,
        "message": message[:1000],
        "type": "Warning",
        "source": {"component": "tuneagent", "host": node},
        "reportingComponent": "tuneagent.dev/agent",
        "reportingInstance": node,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
