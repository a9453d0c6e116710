"""Findings, plans and outcomes as aligned text, worst first, for any width."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import click
import msgspec

from tuneagent.contracts.outcome import Outcome, Undone
from tuneagent.contracts.plan import Plan
from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Setting
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.terminal import has_colours, width
from tuneagent.report.terminal import clean

# Worst first; `converged` is folded unless asked for.
_ORDER = (
    Verdict.CONFLICT,
    Verdict.DRIFTED,
    Verdict.NOT_PERSISTED,
    Verdict.PENDING,
    Verdict.UNKNOWN,
    Verdict.ACCEPTED,
    Verdict.UNSUPPORTED,
    Verdict.CONVERGED,
)
_COLOURS = {
    Verdict.CONFLICT.value: "red",
    Verdict.DRIFTED.value: "red",
    Verdict.NOT_PERSISTED.value: "yellow",
    Verdict.PENDING.value: "yellow",
    Verdict.UNKNOWN.value: "magenta",
}
_FOLD = 6
_CELL = 64
# The first eight digits tell the GPUs of a host apart.
_UUID = lazy_regex(r"(gpu:(?:GPU|MIG)-[0-9a-f]{8})-[0-9a-f-]{27}")
# How far a column may shrink while others still can.
_FLOORS = {"found": 14, "wanted": 14, "now": 14, "then": 14, "kept by": 16, "reason": 20, "left": 12, "right": 12}


def shown(value: Setting) -> str:
    """A setting in a few characters."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return clean(text)


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    columns: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Aligned columns with two blanks between; the last one takes what is left and is wrapped.

    `colours` gives a colour to words of the first column.
    """
    body = [[clean(cell) for cell in row] for row in rows]
    limit = columns or width()
    sizes = [max([len(header), *(len(row[number]) for row in body)]) for number, header in enumerate(headers)]
    sizes = sizes[:-1]
    # The last column holds sentences: it gets what it needs up to a third of the line. Values give way before names,
    # which are what one searches for.
    wanted = max([len(headers[-1]), *(len(row[-1]) for row in body)])
    room = limit - min(wanted, max(limit // 3, 16)) - 2 * len(sizes)
    floors = [min(size, _FLOORS.get(header, size)) for size, header in zip(sizes, headers, strict=False)]
    for lowest in (floors, [min(size, 8) for size in sizes]):
        while sum(sizes) > room and any(size > low for size, low in zip(sizes, lowest, strict=True)):
            spare = [size - low for size, low in zip(sizes, lowest, strict=True)]
            sizes[spare.index(max(spare))] -= 1
    left = max(limit - sum(sizes) - 2 * len(sizes), 16)
    lines = []
    for row in [list(headers), *body]:
        colour = (colours or {}).get(row[0])
        cells = [_wrapped(cell, size) for cell, size in zip(row, [*sizes, left], strict=True)]
        for number in range(max(len(cell) for cell in cells)):
            parts = [
                (cell[number] if number < len(cell) else "").ljust(size)
                for cell, size in zip(cells, [*sizes, left], strict=True)
            ]
            if colour and number == 0:
                parts[0] = parts[0].replace(row[0], click.style(row[0], fg=colour))
            lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _rows(findings: Iterable[Finding]) -> list[list[str]]:
    return [
        [
            finding.verdict.value,
            finding.severity.value,
            _setting(finding),
            _brief(finding.observed),
            _brief(wanted(finding)),
            finding.advice,
        ]
        for finding in findings
    ]


def _wrapped(cell: str, size: int) -> list[str]:
    """A cell in lines of at most `size`, broken at blanks, or else after `.`, `/`, `:`, `,` inside a long word."""
    lines = [""]
    for piece in re.findall(r"[^\s./:,]+[./:,]*|[./:,]+|\s+", cell):
        text = piece if lines[-1] else piece.lstrip()
        while len(lines[-1]) + len(text.rstrip()) > size:
            room = size if not lines[-1] else 0
            if room and len(text) > room:
                lines[-1], text = text[:room], text[room:]
            lines.append("")
            text = text.lstrip()
        lines[-1] += text
    return [line.rstrip() for line in lines]


def _brief(value: Setting) -> str:
    """A value in the length of a table's cell; JSON has it whole."""
    text = shown(value)
    return text if len(text) <= _CELL else text[: _CELL - 3] + "..."


def _setting(finding: Finding) -> str:
    """What people call it, with long UUIDs shortened."""
    return _UUID.sub(lambda match: match.group(1), finding.name or f"{finding.tunable} {finding.subject}")


def wanted(finding: Finding) -> Setting:
    """What is wanted, with how what is found must stand to it where that is not simply equal."""
    sign = {"atLeast": ">=", "atMost": "<="}.get(finding.comparison)
    return f"{sign} {shown(finding.desired)}" if sign and finding.desired is not None else finding.desired


def _folded(findings: Sequence[Finding]) -> list[Finding]:
    """Like findings of one tunable on many subjects (CPUs, vectors) become one line that counts them."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_likeness(finding), []).append(finding)
    found: list[Finding] = []
    for finding in findings:
        group = groups[_likeness(finding)]
        if len(group) < _FOLD:
            found.append(finding)
        elif finding is group[0]:
            found.append(msgspec.structs.replace(finding, name=f"{finding.name} and {len(group) - 1} more"))
    return found


def _likeness(finding: Finding) -> tuple[str, ...]:
    return (finding.verdict.value, finding.tunable, shown(finding.observed), shown(finding.desired), finding.advice)


def report_text(report: Report, *, show_all: bool = False, columns: int | None = None) -> str:
    """The whole report: open findings first, a line of counts last."""
    findings = sorted(report.findings, key=lambda f: (_ORDER.index(f.verdict), -f.severity.rank, f.tunable, f.subject))
    chosen = [f for f in findings if show_all or f.verdict not in (Verdict.CONVERGED, Verdict.UNSUPPORTED)]
    host = report.host
    parts = [
        f"host {host.name or '?'}  kernel {host.kernel or '?'}  {host.arch or '?'}  ({host.source})",
        f"profile {report.profile.name} {report.profile.revision}",
    ]
    if chosen:
        headers = ("verdict", "severity", "setting", "found", "wanted", "")
        folded = chosen if show_all else _folded(chosen)
        parts += ["", table(headers, _rows(folded), columns, _COLOURS if has_colours() else None)]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.summary.items() if count)
    hidden = len(findings) - len(chosen)
    parts += ["", (counts or "nothing to check") + (f"; {hidden} not shown, --all shows them" if hidden else "")]
    return "\n".join(parts)


# What ends a value that no file keeps.
_KEPT = {
    "boot": "until the next boot",
    "driver": "until the driver is unloaded",
    "process": "until the process ends",
    "persistent": "the setting itself",
    "baseline": "as it was before tuneagent",
}


def plan_text(plan: Plan, columns: int | None = None) -> str:
    """Changes grouped by disruption, then what is refused and why."""
    parts = []
    if plan.changes:
        rows = [
            [
                change.disruption.value,
                change.tunable,
                change.subject,
                shown(change.prior.live),
                shown(change.desired),
                _KEPT.get(change.persistence, change.persistence),
            ]
            for change in plan.changes
        ]
        parts.append(table(("disruption", "tunable", "subject", "now", "then", "kept"), rows, columns))
    else:
        parts.append("nothing to change")
    if plan.refused:
        rows = [[item.tunable, item.subject, item.reason] for item in plan.refused]
        parts += ["", "refused:", table(("tunable", "subject", "reason"), rows, columns)]
    count = len(plan.changes)
    parts += ["", f"{count} change{'' if count == 1 else 's'}, {len(plan.refused)} refused, digest {plan.digest}"]
    return "\n".join(parts)


def outcomes_text(outcomes: Sequence[Outcome], columns: int | None = None) -> str:
    """What became of each change."""
    if not outcomes:
        return "nothing to change"
    rows = [[item.result, item.tunable, item.subject, item.reason] for item in outcomes]
    return table(("result", "tunable", "subject", ""), rows, columns)


def aftermath(outcomes: Sequence[Outcome]) -> str | None:
    """What was changed, what was not, and how to go on; None where everything went well."""
    counts = {name: sum(1 for one in outcomes if one.result == name) for name in ("verified", "failed", "skipped")}
    if not counts["failed"] and not counts["skipped"]:
        return None
    return (
        f"{counts['verified']} changed, {counts['failed']} failed, {counts['skipped']} not begun; "
        "`tuneagent apply` goes on from here, `tuneagent undo` goes back"
    )


def undone_text(results: Sequence[Undone], columns: int | None = None) -> str:
    """What became of each setting that was held."""
    if not results:
        return "nothing to undo"
    rows = [[item.result, item.tunable, item.subject, shown(item.value), item.reason] for item in results]
    return table(("result", "tunable", "subject", "now", ""), rows, columns)
