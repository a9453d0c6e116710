"""A report as JUnit XML: what test dashboards read."""

from __future__ import annotations

from xml.etree import ElementTree

from tuneagent.contracts.report import WRONG, Finding, Report, Verdict
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.report.terminal import clean
from tuneagent.report.values import found, wanted

# Not allowed in XML 1.0.
_FORBIDDEN = lazy_regex("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report, now: float) -> str:
    """One test case for each finding: a failure if it is wrong, an error if unknown, skipped if it does not apply."""
    del now
    counts = {
        "tests": len(report.findings),
        "failures": sum(finding.verdict in WRONG for finding in report.findings),
        "errors": sum(finding.verdict is Verdict.UNKNOWN for finding in report.findings),
        "skipped": sum(finding.verdict in (Verdict.UNSUPPORTED, Verdict.ACCEPTED) for finding in report.findings),
    }
    numbers = {name: str(count) for name, count in counts.items()}
    suites = ElementTree.Element("testsuites", numbers)
    name = f"tuneagent {report.profile.name} on {report.host.name or 'unknown host'}"
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _plain(name), **numbers})
    for finding in report.findings:
        _case(suite, finding)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    names = {"classname": finding.tunable, "name": _plain(finding.subject)}
    case = ElementTree.SubElement(suite, "testcase", names)
    message = _plain(f"found {found(finding)}, wanted {wanted(finding)}")
    text = _plain("; ".join(part for part in (finding.advice, finding.why) if part))
    if finding.verdict in WRONG:
        failure = ElementTree.SubElement(case, "failure", {"type": finding.verdict.value, "message": message})
        failure.text = text
    elif finding.verdict is Verdict.UNKNOWN:
        ElementTree.SubElement(case, "error", {"type": "unknown", "message": message}).text = text
    elif finding.verdict is not Verdict.CONVERGED:
        reason = _plain(finding.advice or finding.verdict.value)
        ElementTree.SubElement(case, "skipped", {"message": reason})


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("?", clean(text))
