"""The words of the program as frozen data: observations, findings, changes, plans, reports. No I/O."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from typing import Any, Union

import msgspec

# A setting's value: whatever JSON can hold, so that journal, plan and report need no translation.
Setting = Any
# A stable identity such as `key:vm.swappiness`, `node:0`, `gpu:<UUID>`. Never an index.
Subject = str

SCHEMA_REPORT = "tuneagent.dev/report/v1"
SCHEMA_PLAN = "tuneagent.dev/plan/v1"


class Verdict(str, enum.Enum):
    """What is known of one setting."""

    CONVERGED = "converged"
    DRIFTED = "drifted"
    PENDING = "pending"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    ACCEPTED = "accepted"


class Severity(str, enum.Enum):
    """How much it matters when the setting is wrong."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for `info`."""
        return list(Severity).index(self)


class Disruption(str, enum.Enum):
    """What a change costs those who use the node, least first."""

    LIVE = "live"
    SERVICE = "service"
    KUBELET = "kubelet"
    GPU = "gpu"
    REBOOT = "reboot"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for `live`."""
        return list(Disruption).index(self)


class Lifetime(str, enum.Enum):
    """What ends the effect of a write."""

    PROCESS = "process"
    BOOT = "boot"
    DRIVER = "driver"
    PERSISTENT = "persistent"


class Value(msgspec.Struct, frozen=True, tag="value"):
    """The setting was read."""

    value: Setting


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """This kernel, board or virtual machine has no such setting."""

    why: str


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """The setting may exist but could not be read."""

    error: str


Observation = Union[Value, Absent, Unreadable]


class Reading(msgspec.Struct, frozen=True):
    """One subject as found: running value, persisted value, and who owns it.

    `persisted` is None where the setting has no persistence of its own (the agent asserts it again).
    `mechanism` names the file or unit that would persist it, `impossible` says why that cannot be.
    `owner` names someone else who would win over us.
    """

    live: Observation
    evidence: str
    persisted: Observation | None = None
    mechanism: str | None = None
    impossible: str | None = None
    owner: str | None = None
    # Whether `persisted` is what our own drop-in says.
    own: bool = False
    # What the next boot would set if our drop-in were not there; None where nothing does, or nobody asks.
    others: Setting = None


class About(msgspec.Struct, frozen=True):
    """What explains a setting: severity if wrong, why it matters, where that is written, what to do."""

    severity: Severity
    why: str
    sources: tuple[str, ...] = ()
    advice: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One setting compared with what is wanted. Part of the JSON contract."""

    tunable: str
    subject: Subject
    verdict: Verdict
    severity: Severity
    desired: Setting = None
    observed: Setting = None
    persisted: Setting = None
    next_boot: Setting = None
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
        return self.verdict in (Verdict.DRIFTED, Verdict.PENDING, Verdict.CONFLICT, Verdict.UNKNOWN)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One write that a plan would make. `prior` is `{live, persisted}` as found."""

    tunable: str
    subject: Subject
    prior: Setting
    desired: Setting
    disruption: Disruption
    persistence: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something wanted that the plan will not do, with the reason."""

    tunable: str
    subject: Subject
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Ordered changes. The digest covers the changes alone, so that load on the host cannot move it."""

    schema: str = SCHEMA_PLAN
    digest: str
    changes: tuple[Change, ...]
    refused: tuple[Refusal, ...] = ()


class ProfileName(msgspec.Struct, frozen=True):
    """Which profile a report was made against."""

    name: str
    revision: str


class HostName(msgspec.Struct, frozen=True, kw_only=True):
    """The machine of a report. Unknown parts are None."""

    name: str | None = None
    kernel: str | None = None
    arch: str | None = None
    boot_id: str | None = None
    source: str = "live"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every finding of one audit; text, JSON, metrics and status are views of it."""

    schema: str = SCHEMA_REPORT
    tool: dict[str, str]
    host: HostName
    profile: ProfileName
    summary: dict[str, int]
    findings: tuple[Finding, ...]


def digest_of(changes: Iterable[Change]) -> str:
    """Hash of the changes alone: `sha256:` and 32 hexadecimal digits."""
    encoded = msgspec.json.encode(list(changes), order="sorted")
    return "sha256:" + hashlib.sha256(encoded).hexdigest()[:32]


def summarize(findings: Iterable[Finding]) -> dict[str, int]:
    """Count of findings by verdict; every verdict is named, zero or not."""
    counts = {verdict.value: 0 for verdict in Verdict}
    for finding in findings:
        counts[finding.verdict.value] += 1
    return counts


def exit_code(findings: Iterable[Finding], fail_on: Severity | None = None) -> int:
    """0 converged, 3 something drifted, pending or in conflict, 4 none of these but something unknown.

    `fail_on` narrows 3 to what is wrong now, of at least that severity: a value that is right and not kept for the next
    boot keeps no job away.
    """
    code = 0
    for finding in findings:
        if finding.verdict in (Verdict.DRIFTED, Verdict.PENDING, Verdict.CONFLICT):
            if fail_on is None or (finding.severity.rank >= fail_on.rank and not finding.in_effect):
                return 3
        elif finding.verdict is Verdict.UNKNOWN:
            code = 4
    return code
