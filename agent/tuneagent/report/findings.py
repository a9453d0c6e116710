"""What a finding says to people: how much it weighs, its values, why it matters, what to do."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import Finding, Report, Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.report.terminal import clean
from tuneagent.report.values import found, wanted

TO_DO = (Verdict.CONFLICT, Verdict.DRIFTED, Verdict.UNKNOWN, Verdict.PENDING)
# What is folded unless everything is asked for, and what it is called.
REST = {Verdict.CONVERGED: "as wanted", Verdict.ACCEPTED: "accepted", Verdict.UNSUPPORTED: "not applicable"}
# What a change of each class costs, after the command that makes it.
_COSTS = {
    Disruption.LIVE: "",
    Disruption.SERVICE: " --max-disruption service   (restarts a service)",
    Disruption.KUBELET: " --max-disruption kubelet   (the kubelet counts its CPUs anew)",
    Disruption.GPU: " --max-disruption gpu   (needs idle GPUs)",
    Disruption.REBOOT: " --max-disruption reboot   (takes effect after a reboot)",
}


class Invocation(msgspec.Struct, frozen=True):
    """How the audit was called, for the commands that it names next."""

    # Options that choose the host, as ` --root DIR`, and the profile, as ` -p training`.
    host: str = ""
    profile: str = ""
    # Whether the host is this machine or a tree that can be written.
    is_writable: bool = True

    @property
    def options(self) -> str:
        """All of them."""
        return self.host + self.profile


def weight(finding: Finding) -> tuple[int, int, str, str]:
    order = (*TO_DO, Verdict.NOT_PERSISTED, *REST)
    return (-finding.severity.rank, order.index(finding.verdict), finding.tunable, finding.name)


def chosen(report: Report, *, show_all: bool) -> list[Finding]:
    return [one for one in sorted(report.findings, key=weight) if show_all or one.verdict not in REST]


def value_of(finding: Finding) -> str:
    if finding.verdict is Verdict.UNKNOWN:
        return ""
    if finding.verdict in (Verdict.DRIFTED, Verdict.CONFLICT, Verdict.PENDING):
        return f"{found(finding)} -> {wanted(finding)}"
    return found(finding) if finding.observed is not None else ""


def remarks_of(finding: Finding, called: Invocation) -> list[str]:
    """Why it matters and what to do, in words."""
    if finding.verdict is Verdict.UNKNOWN:
        return [f"not verified: {reason_of_unknown(finding)}"]
    if finding.verdict is Verdict.NOT_PERSISTED:
        return [finding.advice.removeprefix("correct now, but lost at the next boot: "), *_fix(finding, called)]
    if finding.verdict not in TO_DO:
        return [finding.advice] if finding.advice else []
    why = [f"why: {finding.why}"] if finding.why else []
    if finding.verdict is Verdict.PENDING:
        return [*why, f"waits: {finding.advice}"]
    note = [f"note: {finding.advice}"] if finding.advice and finding.disruption is not None else []
    return [*why, *note, *_fix(finding, called)]


def reason_of_unknown(finding: Finding) -> str:
    """Why a value is not known, without the path where that is the setting's own."""
    reason = finding.advice.removeprefix("not read: ")
    path, colon, rest = reason.partition(": ")
    return clean(rest if colon and path.startswith("/") else reason)


def _fix(finding: Finding, called: Invocation) -> list[str]:
    if finding.disruption is None:
        return [f"fix: {finding.advice}"] if finding.advice else []
    if not is_doable(finding) or finding.disruption is Disruption.LIVE or not called.is_writable:
        return []
    return [f"fix: tuneagent apply{called.options}{_COSTS[finding.disruption]}"]


def is_doable(finding: Finding) -> bool:
    """Whether an apply could mend it."""
    if finding.disruption is None or finding.verdict not in (Verdict.DRIFTED, Verdict.NOT_PERSISTED):
        return False
    if finding.verdict is Verdict.NOT_PERSISTED:
        return finding.cannot_persist is None
    return "cannot be changed now" not in finding.advice
