"""The words of the program as frozen data: observations, findings, changes, plans, reports. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

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

# How `observed` must compare with `desired`; `rule` where the setting has its own rule, stated in `why`.
Comparison = Literal["equal", "atLeast", "atMost", "oneOf", "rule"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One setting compared with what is wanted. Part of the JSON contract."""

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[
        Subject, Meta(description="The setting within its tunable; tunable and subject together identify a finding.")
    ]
    name: Annotated[str, Meta(description="What people call the setting; every command takes it.")] = ""
    verdict: Verdict
    severity: Severity
    desired: Annotated[Setting, Meta(description="The value wanted.")] = None
    comparison: Annotated[
        Comparison,
        Meta(
            description="How `observed` must compare with `desired`; `rule` where the setting has a rule of its own, "
            "stated in `why`."
        ),
    ] = "equal"
    observed: Annotated[Setting, Meta(description="The running value, null where it is not known.")] = None
    persisted: Annotated[
        Setting, Meta(description="The value that the files of the next boot set, null where none does.")
    ] = None
    next_boot: Annotated[Setting, Meta(description="The value after the next boot, null where it is not known.")] = None
    cannot_persist: Annotated[str | None, Meta(description="Why no file of ours could make the next boot set it.")] = (
        None
    )
    owner: Annotated[str | None, Meta(description="The program or file that sets the value instead.")] = None
    evidence: Annotated[str, Meta(description="Where the running value was read.")] = ""
    in_effect: Annotated[
        bool, Meta(description="Whether the running value is as wanted, whatever the next boot does.")
    ] = False
    disruption: Disruption | None = None
    why: Annotated[str, Meta(description="Why the setting matters.")] = ""
    advice: Annotated[str, Meta(description="What to do, or why the verdict is what it is.")] = ""
    sources: Annotated[tuple[str, ...], Meta(description="Where the recommendation comes from.")] = ()

    @property
    def is_open(self) -> bool:
        """True where the host is not, or not known to be, as wanted."""
        return self.verdict in OPEN


class ProfileName(msgspec.Struct, frozen=True):
    """Which profile a report was made against."""

    name: Annotated[str, Meta(description="Name of the profile.")]
    revision: Annotated[str, Meta(description="Digest of what the profile resolves to.")]


class GpuName(msgspec.Struct, frozen=True):
    """One GPU of a report's machine. `index` is NVML's."""

    index: Annotated[int, Meta(description="NVML's index.")]
    uuid: Annotated[str, Meta(description="NVML's UUID.")]
    name: Annotated[str | None, Meta(description="Name of the product.")] = None


class HostName(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The machine of a report. Unknown parts are null; only an audit asks for CPUs, memory, driver and GPUs."""

    name: Annotated[str | None, Meta(description="Host name.")] = None
    kernel: Annotated[str | None, Meta(description="Release of the running kernel.")] = None
    arch: Annotated[str | None, Meta(description="Machine architecture.")] = None
    boot_id: Annotated[str | None, Meta(description="Identifier of this boot.")] = msgspec.field(
        default=None, name="bootID"
    )
    source: Annotated[str, Meta(description="`live`, `tree` or `capture`.")] = "live"
    taken: Annotated[
        float | None, Meta(description="When a capture was taken, in seconds since 1970; null for others.")
    ] = None
    cpus: Annotated[int | None, Meta(description="CPUs online.")] = None
    memory_bytes: Annotated[int | None, Meta(description="Memory, in bytes.")] = None
    driver: Annotated[str | None, Meta(description="Version of the NVIDIA driver.")] = None
    gpus: Annotated[
        tuple[GpuName, ...] | None, Meta(description="GPUs; empty where there are none, null where that is not known.")
    ] = None
    no_gpus: Annotated[str | None, Meta(description="Why `gpus` is empty or null.")] = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every finding of one audit; text, JSON, metrics and status are views of it."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA_REPORT
    tool: Annotated[dict[str, str], Meta(description="Name and version of the program.")]
    host: HostName
    profile: ProfileName
    summary: Annotated[dict[str, int], Meta(description="How many findings have each verdict.")]
    findings: Annotated[tuple[Finding, ...], Meta(description="One for each setting that was compared.")]


def summarize(findings: Iterable[Finding]) -> dict[str, int]:
    """Count of findings by verdict; every verdict is named, zero or not."""
    counts = {verdict.value: 0 for verdict in Verdict}
    for finding in findings:
        counts[finding.verdict.value] += 1
    return counts


class FailOn(msgspec.Struct, frozen=True):
    """Lowest severity that counts, of what is wrong now and of what is right now but lost at the next boot."""

    wrong_now: Severity | None = None
    lost: Severity | None = None


def exit_code(findings: Iterable[Finding], fail_on: FailOn | None = None) -> int:
    """0 converged, 3 something is wrong now or at the next boot, 4 none of these but something unknown.

    `fail_on` narrows 3: a value that is right but not kept for the next boot stops no job, unless you ask for that.
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
