"""From assessments to a plan. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tuneagent.contracts.plan import Change, Plan, Refusal, digest_of
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.assess import Assessment
from tuneagent.errors import reason_of
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.registry import ordered

BASELINE = "baseline"


def undo_change(held: AppliedSetting, registry: Mapping[str, Tunable[Any]]) -> Change:
    """What undoing a setting would be, as a change that a plan or an offer can hold."""
    return Change(
        tunable=held.tunable,
        subject=held.subject,
        prior={"live": held.wrote, "persisted": None},
        desired=held.baseline,
        disruption=registry[held.tunable].disruption,
        persistence=BASELINE,
    )


def _change(item: Assessment, tunable: Tunable[Any]) -> Change:
    found = (item.prior["live"], item.prior["persisted"], item.others)
    persists = item.needs_entries and tunable.drop_in is not None
    return Change(
        tunable=tunable.name,
        subject=item.finding.subject,
        prior=item.prior,
        desired=tunable.value_for(item.finding.subject, item.finding.desired, found),
        disruption=tunable.disruption,
        persistence=f"/{item.mechanism or tunable.drop_in.path}"
        if persists and tunable.drop_in is not None
        else tunable.lifetime.value,
    )


def make_plan(
    judged: Iterable[Assessment],
    registry: Mapping[str, Tunable[Any]],
    dropped: Iterable[AppliedSetting] = (),
    held: Collection[Key] = (),
    *,
    assume_idle: bool = False,
) -> Plan:
    """Changes ordered by disruption and `after`. Pure.

    `dropped` are settings held in the journal that no profile names now; `held` names all that are. With
    `assume_idle` the plan is that of a node that nobody uses.
    """
    changes: list[Change] = []
    refused: list[Refusal] = []
    for item in judged:
        tunable = registry[item.finding.tunable]
        if tunable.report_only or not (item.needs_live or item.needs_entries or item.refusal):
            continue
        subject = item.finding.subject
        refusal = item.refusal or (None if assume_idle else item.busy)
        if tunable.one_way(subject) is not None and (tunable.name, subject) in held:
            refusal = "done once already; what is left cannot be changed"
        if refusal is not None:
            refused.append(Refusal(tunable=tunable.name, subject=subject, reason=refusal))
            continue
        try:
            changes.append(_change(item, tunable))
        except Exception as error:  # a value that makes no sense is that subject's trouble
            refused.append(Refusal(tunable=tunable.name, subject=subject, reason=f"not planned: {reason_of(error)}"))
    changes += [undo_change(held, registry) for held in dropped]
    used = {change.tunable: registry[change.tunable] for change in changes}
    places = {name: number for number, name in enumerate(ordered(used))}
    changes.sort(key=lambda change: (change.disruption.rank, places[change.tunable], change.subject))
    return Plan(digest=digest_of(changes), changes=tuple(changes), refused=tuple(refused))
