"""A report as SARIF 2.1.0 (docs.oasis-open.org/sarif): what code and compliance scanners collect."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Severity
from tuneagent.report.terminal import clean
from tuneagent.report.values import found as found_words
from tuneagent.report.values import wanted

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}


def render(report: Report, now: float) -> str:
    """One result for each finding that is wrong or not known; an unknown one asks for review."""
    del now
    found = [finding for finding in report.findings if finding.is_open]
    driver = {
        "name": report.tool["name"],
        "version": report.tool["version"],
        "rules": [{"id": name} for name in sorted({finding.tunable for finding in found})],
    }
    run = {"tool": {"driver": driver}, "results": [_result(finding, report.host.name) for finding in found]}
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


def _result(finding: Finding, host: str | None) -> dict[str, object]:
    values = f"found {found_words(finding)}, wanted {wanted(finding)}"
    text = "; ".join(part for part in (clean(finding.name), values, clean(finding.advice)) if part)
    place = {"fullyQualifiedName": clean(f"{host or 'host'}/{finding.subject}"), "kind": "resource"}
    return {
        "ruleId": finding.tunable,
        "kind": "review" if finding.verdict is Verdict.UNKNOWN else "fail",
        "level": "none" if finding.verdict is Verdict.UNKNOWN else _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [{"logicalLocations": [place]}],
    }
