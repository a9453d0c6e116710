"""Plans and outcomes for people, for any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuneagent.contracts.outcome import Outcome, Undone
from tuneagent.contracts.plan import Change, Plan, Refusal
from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Disruption, Subject
from tuneagent.engine.names import short
from tuneagent.host.terminal import width
from tuneagent.report.findings import Invocation, reason_of_unknown, source_of, weight
from tuneagent.report.lines import Row, counted, name_column, rows_text, wrapped
from tuneagent.report.terminal import clean
from tuneagent.report.values import spoken

# Name of a setting by tunable and subject.
NameOf = Callable[[str, Subject], str]
_CLASSES = {
    Disruption.LIVE: "CHANGES THAT RESTART NOTHING",
    Disruption.SERVICE: "CHANGES THAT RESTART A SERVICE (--max-disruption service)",
    Disruption.KUBELET: "CHANGES TO THE CPUS THAT THE KUBELET COUNTS (--max-disruption kubelet)",
    Disruption.GPU: "CHANGES THAT NEED IDLE GPUS (--max-disruption gpu)",
    Disruption.REBOOT: "CHANGES THAT TAKE EFFECT AFTER A REBOOT (--max-disruption reboot)",
}
# What ends a value that no file keeps.
_KEPT = {
    "boot": "lost at the next boot",
    "driver": "lost when the driver is unloaded",
    "process": "lost when the process ends",
    "persistent": "kept by the setting itself",
    "baseline": "back to what it was before tuneagent",
}


def plan_text(
    plan: Plan, name_of: NameOf, columns: int | None = None, findings: Sequence[Finding] = (), head: str = ""
) -> str:
    """Changes grouped by disruption, what is refused and why, and open findings that no apply could fix.

    `head` says which host and profile the plan is for.
    """
    limit = columns or width()
    parts: list[str] = [*wrapped(head, limit, "  "), ""] if head else []
    for disruption, title in _CLASSES.items():
        changes = [change for change in plan.changes if change.disruption is disruption]
        if changes:
            parts += [title, *_planned(changes, name_of, limit), ""]
    if plan.refused:
        rows = [Row("", name_shown(name_of, one.tunable, one.subject), "", clean(one.reason)) for one in plan.refused]
        parts += ["REFUSED", *(f"  {line}" for line in rows_text(rows, limit - 2)), ""]
    left = _left(plan, findings)
    if left:
        title = "LEFT TO YOU: an apply does not change these"
        parts += [title, *(f"  {line}" for line in rows_text(left, limit - 2)), ""]
    refused = f", {len(plan.refused)} refused" if plan.refused else ""
    return "\n".join([*parts, f"{_counted(plan)}{refused}", f"digest {plan.digest}"])


def plan_head(report: Report, called: Invocation) -> str:
    """The host and the profile that a plan is for."""
    where = f" ({source_of(report.host, called)})" if report.host.source != "live" else ""
    name = clean(report.host.name or "unknown host")
    return f"plan for {name}{where}, profile {report.profile.name} {report.profile.revision}"


def _counted(plan: Plan) -> str:
    """How many values change, and how many are only written where the next boot reads them."""
    staying = sum(1 for one in plan.changes if one.prior.live == one.desired)
    moving = len(plan.changes) - staying
    parts = [f"{counted(moving, 'value')} to change"] if moving else []
    parts += [f"{staying} to keep for the next boot"] if staying else []
    return ", ".join(parts) or "nothing to change"


def _left(plan: Plan, findings: Sequence[Finding]) -> list[Row]:
    """Open findings that are neither changed nor refused in the plan."""
    told = {(one.tunable, one.subject) for one in plan.changes} | {(one.tunable, one.subject) for one in plan.refused}
    left = [one for one in sorted(findings, key=weight) if one.is_open and (one.tunable, one.subject) not in told]
    reasons: dict[str, list[str]] = {}
    for one in left:
        unread = f"not verified: {reason_of_unknown(one)}" if one.verdict is Verdict.UNKNOWN else ""
        reason = unread or one.cannot_persist or one.advice
        reasons.setdefault(clean(reason), []).append(short(clean(one.name)))
    return [
        Row("", names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", "", reason)
        for reason, names in reasons.items()
    ]


def _planned(changes: Sequence[Change], name_of: NameOf, limit: int) -> list[str]:
    """Changes by what keeps them, each with its value before and after."""
    groups: dict[str, list[Row]] = {}
    for change in changes:
        now, then = spoken(change.prior.live), spoken(change.desired)
        values = f"{now} -> {then}" if now != then else f"stays {now}"
        row = Row("", name_shown(name_of, change.tunable, change.subject), values)
        groups.setdefault(change.persistence, []).append(row)
    column = name_column([row for rows in groups.values() for row in rows], limit - 4)
    lines: list[str] = []
    for kept, rows in groups.items():
        lines.append(f"  {_KEPT.get(kept, f'kept for the next boot in {kept}')}:")
        lines += [f"    {line}" for line in rows_text(rows, limit - 4, name_size=column)]
    return lines


def name_shown(name_of: NameOf, tunable: str, subject: Subject) -> str:
    """The name of a setting as all screens print it."""
    return short(clean(name_of(tunable, subject)))


def outcomes_text(
    outcomes: Sequence[Outcome], name_of: NameOf, columns: int | None = None, refused: Sequence[Refusal] = ()
) -> str:
    """What became of each change, and what the plan refused."""
    if not outcomes and not refused:
        return "nothing to change"
    rows = [Row(one.result, name_shown(name_of, one.tunable, one.subject), "", clean(one.reason)) for one in outcomes]
    rows += [Row("refused", name_shown(name_of, one.tunable, one.subject), "", clean(one.reason)) for one in refused]
    return "\n".join(rows_text(rows, columns or width()))


def success(outcomes: Sequence[Outcome], findings: Sequence[Finding]) -> str | None:
    """What an apply has done where everything went well; `findings` are those after it. None where it did nothing."""
    done = {(one.tunable, one.subject) for one in outcomes if one.result == "verified"}
    if not done or aftermath(outcomes) is not None:
        return None
    lost = [one for one in findings if (one.tunable, one.subject) in done and one.verdict is Verdict.NOT_PERSISTED]
    told = f"; {len(lost)} of them {'is' if len(lost) == 1 else 'are'} lost at the next boot" if lost else ""
    return f"{counted(len(done), 'setting')} written and verified{told}"


def aftermath(outcomes: Sequence[Outcome]) -> str | None:
    """What was changed, what was not, and how to go on; None where everything went well."""
    counts = {name: sum(1 for one in outcomes if one.result == name) for name in ("verified", "failed", "skipped")}
    if not counts["failed"] and not counts["skipped"]:
        return None
    return (
        f"{counts['verified']} changed, {counts['failed']} failed, {counts['skipped']} not begun; "
        "`tuneagent apply` continues from here, `tuneagent undo` reverts"
    )


def undone_text(results: Sequence[Undone], name_of: NameOf, columns: int | None = None) -> str:
    """What became of each setting that was held."""
    if not results:
        return "nothing to undo"
    rows = [
        Row(one.result, name_shown(name_of, one.tunable, one.subject), spoken(one.value), clean(one.reason))
        for one in results
    ]
    return "\n".join(rows_text(rows, columns or width()))
