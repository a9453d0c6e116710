"""The audit for pipes, scripts and shells: a line for each finding."""

from __future__ import annotations

import shlex

from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.names import short
from tuneagent.host.terminal import ENDLESS
from tuneagent.report.audit_screen import answer_lines, host_lines
from tuneagent.report.findings import Invocation, chosen, is_doable, reason_of_unknown, remarks_of, value_of
from tuneagent.report.terminal import clean
from tuneagent.report.values import found, wanted


def report_lines(report: Report, *, show_all: bool = False, called: Invocation | None = None) -> str:
    """For pipes and logs: the answer, then a line for each finding with everything that the screen shows of it."""
    cells = [_cells(one) for one in chosen(report, show_all=show_all)]
    sizes = [max((len(row[number]) for row in cells), default=0) for number in range(3)]
    rows = ["  ".join([*(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)), *row[3:]]) for row in cells]
    head = [*host_lines(report, ENDLESS, called or Invocation()), *answer_lines(report, ENDLESS, colours=False)]
    return "\n".join([*head, *(row.rstrip() for row in rows)])


def report_plain(report: Report, *, show_all: bool = False) -> str:
    """A line for each finding: verdict, severity, tunable, name, found, wanted and remark, separated by tabs."""
    rows = [
        (
            one.verdict.value, one.severity.value, one.tunable, one.name,
            found(one, ENDLESS), wanted(one, ENDLESS), one.advice,
        )
        for one in chosen(report, show_all=show_all)
    ]  # fmt: skip
    return "\n".join("\t".join(clean(cell) for cell in row) for row in rows)


def fix_lines(report: Report, called: Invocation) -> str:
    """Commands for a shell, most severe finding first; what only people can fix is a comment."""
    lines: dict[str, None] = {}
    for one in chosen(report, show_all=False):
        name = short(clean(one.name))
        why = reason_of_unknown(one) if one.verdict is Verdict.UNKNOWN else clean(one.advice or one.why)
        if one.disruption is None or not is_doable(one) or not called.is_writable:
            # One line each: a shell that reads this runs nothing of what a host has said.
            lines[clean(f"# {name}: {one.verdict.value}: {why}")] = None
        else:
            heavier = "" if one.disruption is Disruption.LIVE else f" --max-disruption {one.disruption.value}"
            lines[f"tuneagent apply{called.options}{heavier} --yes --only {shlex.quote(name)}"] = None
    return "\n".join(lines) or "# nothing to fix"


def _cells(finding: Finding) -> list[str]:
    values = value_of(finding)
    remark = "; ".join(clean(one) for one in remarks_of(finding, Invocation()))
    return [finding.verdict.value, finding.severity.value, clean(finding.name), *filter(None, (values, remark))]
