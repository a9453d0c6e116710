"""What a finding says to people: how severe it is, its values, why it matters, what to do."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import Finding, HostName, Report, Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.report.terminal import clean
from tuneagent.report.values import at, found, wanted

TO_DO = (Verdict.CONFLICT, Verdict.DRIFTED, Verdict.UNKNOWN, Verdict.PENDING)
# What is hidden unless everything is asked for, and what it is called.
REST = {Verdict.CONVERGED: "as wanted", Verdict.ACCEPTED: "accepted", Verdict.UNSUPPORTED: "not applicable"}
_SECTIONS = (TO_DO, (Verdict.NOT_PERSISTED,), tuple(REST))
# What a change of each class costs, after the command that makes it.
_COSTS = {
    Disruption.LIVE: "",
    Disruption.SERVICE: " --max-disruption service   (restarts a service)",
    Disruption.KUBELET: " --max-disruption kubelet   (the kubelet recounts its CPUs)",
    Disruption.GPU: " --max-disruption gpu   (needs idle GPUs)",
    Disruption.REBOOT: " --max-disruption reboot   (takes effect after a reboot)",
}


class Invocation(msgspec.Struct, frozen=True):
    """How the audit was called, for the commands that it suggests next."""

    # Options that choose the host, as ` --root DIR`, and the profile, as ` -p training`.
    host: str = ""
    profile: str = ""
    # Whether the host is this machine or a tree that can be written.
    is_writable: bool = True
    # What stands before a command on this machine that only root can do.
    sudo: str = ""

    @property
    def place(self) -> str:
        """The folder of a tree or the file of a capture, as it was typed; empty for this machine."""
        option, _, place = self.host.strip().partition(" ")
        return place.partition(" --state-dir ")[0] if option in ("--root", "--capture") else ""

    @property
    def options(self) -> str:
        """All of them."""
        return self.host + self.profile


def source_of(host: HostName, called: Invocation) -> str:
    """Where a report comes from that is not of the running host."""
    place = f" {clean(called.place)}" if called.place else ""
    taken = f" of {at(host.taken)}" if host.taken is not None else ""
    return f"from the {host.source}{place}{taken}: a copy of the host's files, not the running host"


def weight(finding: Finding) -> tuple[int, int, int, str, str]:
    """What to deal with first: what is to do, then what the next boot loses, then the rest, each by severity.

    What is not verified weighs between its own severity and the one below: an unknown critical setting comes before a
    medium one that is wrong, and after a high one that is known to be wrong.
    """
    order = (*TO_DO, Verdict.NOT_PERSISTED, *REST)
    section = next(number for number, verdicts in enumerate(_SECTIONS) if finding.verdict in verdicts)
    weighs = 2 * finding.severity.rank - (3 if finding.verdict is Verdict.UNKNOWN else 0)
    return (section, -weighs, order.index(finding.verdict), finding.tunable, finding.name)


def chosen(report: Report, *, show_all: bool) -> list[Finding]:
    return [one for one in sorted(report.findings, key=weight) if show_all or one.verdict not in REST]


def value_of(finding: Finding) -> str:
    if finding.verdict is Verdict.UNKNOWN:
        return ""
    if finding.verdict in (Verdict.DRIFTED, Verdict.CONFLICT, Verdict.PENDING):
        if finding.in_effect:
            # Only the next boot is wrong, and the remark says how.
            return found(finding)
        # An arrow is a change that could be made; what is only reported has none.
        between = ", wanted " if finding.disruption is None else " -> "
        return f"{found(finding)}{between}{wanted(finding)}"
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
    """Whether an apply could fix it."""
    if finding.disruption is None or finding.verdict not in (Verdict.DRIFTED, Verdict.NOT_PERSISTED):
        return False
    if finding.verdict is Verdict.NOT_PERSISTED:
        return finding.cannot_persist is None
    return "cannot be changed now" not in finding.advice
