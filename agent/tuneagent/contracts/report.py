"""The words of the program as frozen data: observations, findings, changes, plans, reports. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Literal

import msgspec

from tuneagent.contracts.values import Disruption, Setting, Severity, Subject

SCHEMA_REPORT = "tuneagent.dev/report/v1"


class Verdict(str, enum.Enum):
    """What is known of one setting."""

    CONVERGED = "converged"
    DRIFTED = "drifted"
    NOT_PERSISTED = "not-persisted"
    PENDING = "pending"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    ACCEPTED = "accepted"


# Verdicts of what is wrong, now or at the next boot; and with those that are not known.
WRONG = (Verdict.DRIFTED, Verdict.NOT_PERSISTED, Verdict.PENDING, Verdict.CONFLICT)
OPEN = (*WRONG, Verdict.UNKNOWN)

# How `observed` must stand to `desired`; `rule` where the setting has a rule of its own, told in `why`.
Comparison = Literal["equal", "atLeast", "atMost", "oneOf", "rule"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One setting compared with what is wanted. Part of the JSON contract."""

    tunable: str
    subject: Subject
    # What people call it: the tunable, and the subject without its kind where the tunable says the kind already.
    name: str = ""
    verdict: Verdict
    severity: Severity
    desired: Setting = None
    comparison: Comparison = "equal"
    observed: Setting = None
    persisted: Setting = None
    next_boot: Setting = None
    # Why no file of ours could make the next boot set it.
    cannot_persist: str | None = None
    owner: str | None = None
    evidence: str = ""
    # Whether the running value is as wanted, whatever the next boot does.
    in_effect: bool = False
    disruption: Disruption | None = None
    why: str = ""
    advice: str = ""
    sources: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """True where the host is not, or not known to be, as wanted."""
        return self.verdict in OPEN


class ProfileName(msgspec.Struct, frozen=True):
    """Which profile a report was made against."""

    name: str
    revision: str


class GpuName(msgspec.Struct, frozen=True):
    """One GPU of a report's machine. `index` is NVML's."""

    index: int
    uuid: str
    name: str | None = None


class HostName(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The machine of a report. Unknown parts are None.

    `gpus` is empty where there are none, and None where that is not known; `no_gpus` says why in both cases. Only an
    audit asks for CPUs, memory, driver and GPUs.
    """

    name: str | None = None
    kernel: str | None = None
    arch: str | None = None
    boot_id: str | None = msgspec.field(default=None, name="bootID")
    source: str = "live"
    cpus: int | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    gpus: tuple[GpuName, ...] | None = None
    no_gpus: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every finding of one audit; text, JSON, metrics and status are views of it."""

    schema: str = SCHEMA_REPORT
    tool: dict[str, str]
    host: HostName
    profile: ProfileName
    summary: dict[str, int]
    findings: tuple[Finding, ...]


def summarize(findings: Iterable[Finding]) -> dict[str, int]:
    """Count of findings by verdict; every verdict is named, zero or not."""
    counts = {verdict.value: 0 for verdict in Verdict}
    for finding in findings:
        counts[finding.verdict.value] += 1
    return counts


class FailOn(msgspec.Struct, frozen=True):
    """Least severity that counts, of what is wrong now and of what is right now and lost at the next boot."""

    wrong_now: Severity | None = None
    lost: Severity | None = None


def exit_code(findings: Iterable[Finding], fail_on: FailOn | None = None) -> int:
    """0 converged, 3 something is wrong now or at the next boot, 4 none of these but something unknown.

    `fail_on` narrows 3: a value that is right and not kept for the next boot keeps no job away, unless that is asked.
    """
    code = 0
    for finding in findings:
        if finding.verdict in WRONG:
            if fail_on is None:
                return 3
            least = fail_on.lost if finding.in_effect else fail_on.wrong_now
            if least is not None and finding.severity.rank >= least.rank:
                return 3
        elif finding.verdict is Verdict.UNKNOWN:
            code = 4
    return code
