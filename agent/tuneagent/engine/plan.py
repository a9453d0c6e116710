"""From assessments to a plan. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from tuneagent.contracts.plan import Change, Plan, Prior, Refusal, digest_of
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.assess import Assessment
from tuneagent.errors import reason_of
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import ordered

BASELINE = "baseline"


def undo_change(applied: AppliedSetting, registry: Mapping[str, AnyTunable]) -> Change:
    """What undoing a setting would be, as a change that a plan or a proposal can hold."""
    return Change(
        tunable=applied.tunable,
        subject=applied.subject,
        prior=Prior(live=applied.wrote),
        desired=applied.baseline,
        disruption=registry[applied.tunable].disruption,
        persistence=BASELINE,
    )


def _change(item: Assessment, tunable: AnyTunable) -> Change:
    found = (item.prior.live, item.prior.persisted, item.others)
    persistence = tunable.lifetime.value
    if item.needs_entries and tunable.drop_in is not None:
        persistence = f"/{item.mechanism or tunable.drop_in.path}"
    return Change(
        tunable=tunable.name,
        subject=item.finding.subject,
        prior=item.prior,
        desired=tunable.value_for(item.finding.subject, item.desired, found),
        disruption=tunable.disruption,
        persistence=persistence,
    )


def make_plan(
    assessments: Iterable[Assessment],
    registry: Mapping[str, AnyTunable],
    dropped: Iterable[AppliedSetting] = (),
    applied: Collection[Key] = (),
    *,
    assume_idle: bool = False,
) -> Plan:
    """Changes ordered by disruption and `after`.

    `dropped` are settings of the journal that no profile names now; `applied` names all that were written. With
    `assume_idle` the plan is that of a node that nobody uses.
    """
    changes: list[Change] = []
    refused: list[Refusal] = []
    for item in assessments:
        tunable = registry[item.finding.tunable]
        if tunable.report_only or not (item.needs_live or item.needs_entries or item.refusal):
            continue
        subject = item.finding.subject
        refusal = item.refusal or (None if assume_idle else item.busy)
        if tunable.one_way(subject) is not None and (tunable.name, subject) in applied:
            refusal = "done once already; what is left cannot be changed"
        if refusal is not None:
            refused.append(Refusal(tunable=tunable.name, subject=subject, reason=refusal))
            continue
        try:
            changes.append(_change(item, tunable))
        except Exception as error:  # a value that makes no sense is that subject's trouble
            refused.append(Refusal(tunable=tunable.name, subject=subject, reason=f"not planned: {reason_of(error)}"))
    changes += [undo_change(one, registry) for one in dropped]
    used = {change.tunable: registry[change.tunable] for change in changes}
    places = {name: number for number, name in enumerate(ordered(used))}
    changes.sort(key=lambda change: (change.disruption.rank, places[change.tunable], change.subject))
    return Plan(digest=digest_of(changes), changes=tuple(changes), refused=tuple(refused))


def live_part(plan: Plan, registry: Mapping[str, AnyTunable]) -> Plan:
    """The part of a plan that changes running values, and nothing of the next boot."""
    changes = tuple(
        msgspec.structs.replace(change, persistence=registry[change.tunable].lifetime.value)
        for change in plan.changes
        if change.persistence != BASELINE
        and not registry[change.tunable].matches(change.subject, change.prior.live, change.desired)
    )
    return Plan(digest=digest_of(changes), changes=changes, refused=plan.refused)


def narrowed(plan: Plan, only: Collection[Key] | None) -> Plan:
    """The part of a plan that is about these settings; all of it for None."""
    if only is None:
        return plan
    changes = tuple(change for change in plan.changes if (change.tunable, change.subject) in only)
    refused = tuple(item for item in plan.refused if (item.tunable, item.subject) in only)
    return Plan(digest=digest_of(changes), changes=changes, refused=refused)
