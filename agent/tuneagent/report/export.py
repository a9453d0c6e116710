"""A report for other programs: JUnit XML, and the text format of node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.formats.lazy_regex import pattern
from tuneagent.report.terminal import clean
from tuneagent.report.text import plain, shown

_FAILURES = (Verdict.DRIFTED, Verdict.PENDING, Verdict.CONFLICT)
# Not allowed in XML 1.0.
_FORBIDDEN = pattern("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_text(report: Report) -> str:
    """One test case for each finding: a failure if it is open, an error if unknown, skipped if unsupported."""
    findings = report.findings
    failures = sum(finding.verdict in _FAILURES for finding in findings)
    errors = sum(finding.verdict is Verdict.UNKNOWN for finding in findings)
    skipped = sum(finding.verdict in (Verdict.UNSUPPORTED, Verdict.ACCEPTED) for finding in findings)
    name = quoteattr(clean(f"tuneagent {report.profile.name} on {report.host.name or 'unknown host'}"))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{len(findings)}" failures="{failures}" errors="{errors}" skipped="{skipped}">',
        f'<testsuite name={name} tests="{len(findings)}" failures="{failures}" errors="{errors}" skipped="{skipped}">',
        *_cases(findings),
        "</testsuite>",
        "</testsuites>",
    ]
    return _FORBIDDEN.sub("?", "\n".join(lines))


def _cases(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        head = f"<testcase classname={quoteattr(finding.tunable)} name={quoteattr(clean(finding.subject))}"
        found, wanted = shown(finding.observed), shown(plain(finding.desired))
        message = quoteattr(clean(f"found {found}, wanted {wanted}"))
        text = escape(clean("; ".join(part for part in (finding.advice, finding.why) if part)))
        if finding.verdict in _FAILURES:
            kind = quoteattr(finding.verdict.value)
            yield f"{head}><failure type={kind} message={message}>{text}</failure></testcase>"
        elif finding.verdict is Verdict.UNKNOWN:
            yield f'{head}><error type="unknown" message={message}>{text}</error></testcase>'
        elif finding.verdict is Verdict.CONVERGED:
            yield f"{head}/>"
        else:
            yield f"{head}><skipped message={quoteattr(clean(finding.advice or finding.verdict.value))}/></testcase>"


def prometheus_text(report: Report, now: float) -> str:
    """Counts by verdict, one sample for each open finding, and the time of the audit in seconds since 1970."""
    profile = _label(report.profile.name)
    lines = [
        "# HELP tuneagent_audit_findings Settings by verdict at the last audit.",
        "# TYPE tuneagent_audit_findings gauge",
    ]
    for verdict, count in report.summary.items():
        lines.append(f'tuneagent_audit_findings{{profile="{profile}",verdict="{verdict}"}} {count}')
    lines += [
        "# HELP tuneagent_audit_open A setting that is not as wanted, or not known.",
        "# TYPE tuneagent_audit_open gauge",
    ]
    for finding in report.findings:
        if finding.is_open:
            labels = ",".join(
                f'{name}="{_label(text)}"'
                for name, text in (
                    ("tunable", finding.tunable),
                    ("subject", finding.subject),
                    ("verdict", finding.verdict.value),
                    ("severity", finding.severity.value),
                )
            )
            lines.append(f"tuneagent_audit_open{{{labels}}} 1")
    lines += [
        "# HELP tuneagent_audit_timestamp_seconds When the audit ran.",
        "# TYPE tuneagent_audit_timestamp_seconds gauge",
        f"tuneagent_audit_timestamp_seconds {now:.3f}",
    ]
    return "\n".join(lines)


def _label(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')
