"""A report as one page for a browser: what matters most, what to do, and every finding with a filter."""

from __future__ import annotations

from tuneagent.contracts.report import OPEN, Finding, Report, Verdict
from tuneagent.report.audit_screen import gpus_of
from tuneagent.report.digits import gib
from tuneagent.report.findings import weight
from tuneagent.report.html_page import Mark, folded, page, search_box, section, table
from tuneagent.report.lines import counted
from tuneagent.report.values import at, found, wanted

_KINDS = {Verdict.CONVERGED: "good", Verdict.DRIFTED: "bad", Verdict.CONFLICT: "bad", Verdict.NOT_PERSISTED: "warn",
          Verdict.PENDING: "warn", Verdict.UNKNOWN: "warn"}  # fmt: skip
_FIRST = 10


def render(report: Report, now: float) -> str:
    """The page."""
    ordered = sorted(report.findings, key=weight)
    still_open = [one for one in ordered if one.verdict in OPEN]
    parts = [section("What matters most", _first(still_open))]
    groups = {
        "Open": still_open,
        "As wanted": [one for one in ordered if one.verdict is Verdict.CONVERGED],
        "Accepted, or not applicable": [
            one for one in ordered if one.verdict in (Verdict.ACCEPTED, Verdict.UNSUPPORTED)
        ],
    }
    listed = "".join(
        folded(f"{title}: {len(findings)}", _findings(title, findings))
        for title, findings in groups.items()
        if findings
    )
    parts.append(section("Findings", search_box("settings") + listed))
    title = f"{report.host.name or 'unknown host'}: {counted(len(still_open), 'setting')} open"
    about = [_machine(report), f"profile {report.profile.name} {report.profile.revision}, {at(now)}"]
    return page(title, about, parts)


def _machine(report: Report) -> str:
    host = report.host
    memory = f"{gib(host.memory_bytes)} memory" if host.memory_bytes else ""
    told = (gpus_of(host), counted(host.cpus, "CPU"), memory, f"kernel {host.kernel or '?'}", host.arch or "")
    return ", ".join(part for part in told if part)


def _first(still_open: list[Finding]) -> str:
    if not still_open:
        return "<p>Everything is as the profile wants it, now and at the next boot.</p>\n"
    more = len(still_open) - _FIRST
    rest = f"<p>And {more} more, below.</p>\n" if more > 0 else ""
    rest += "<p><code>tuneagent plan</code>, called as this audit was, shows what would change.</p>\n"
    return _findings("First", still_open[:_FIRST]) + rest


def _findings(label: str, findings: list[Finding]) -> str:
    rows = [
        (
            Mark(one.verdict.value, _KINDS.get(one.verdict, "")),
            one.severity.value,
            one.name or one.subject,
            found(one),
            wanted(one),
            "; ".join(part for part in (one.advice, one.why) if part),
        )
        for one in findings
    ]
    return table(label, ("verdict", "severity", "setting", "found", "wanted", "why, and what to do"), rows)
