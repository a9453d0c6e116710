"""What differs between two hosts, captures or reports: why is node 17 slow? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from tuneagent.contracts.report import Finding, Report
from tuneagent.contracts.values import Setting
from tuneagent.formats.lazy_regex import lazy_regex

SCHEMA = "tuneagent.dev/diff/v1"
# GPUs of two machines have different UUIDs: they are compared by their place.
_GPU = lazy_regex(r"gpu:GPU-[^/]+|gpu:MIG-[^/]+")
_PROCESS = lazy_regex(r"pid:\d+@\d+@[0-9a-f-]*")


class Difference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One setting that differs between the two; a verdict is None where only the other host has the setting."""

    tunable: Annotated[str, Meta(description="The tunable that the setting belongs to.")]
    subject: Annotated[str, Meta(description="The setting within its tunable.")]
    left: Annotated[Setting, Meta(description="Value of the first host.")] = None
    right: Annotated[Setting, Meta(description="Value of the second host.")] = None
    left_verdict: Annotated[
        str | None, Meta(description="Verdict of the first host; null where it has no such setting.")
    ] = None
    right_verdict: Annotated[
        str | None, Meta(description="Verdict of the second host; null where it has no such setting.")
    ] = None
    why: Annotated[str, Meta(description="Why the setting matters.")] = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two reports side by side."""

    schema: Annotated[str, Meta(description="Name and version of this document.")] = SCHEMA
    left: Annotated[str, Meta(description="Name of the first host.")]
    right: Annotated[str, Meta(description="Name of the second host.")]
    compared: Annotated[int, Meta(description="How many settings were compared.")]
    differences: Annotated[tuple[Difference, ...], Meta(description="What differs, the most severe first.")]


def compare(left: Report, right: Report, names: tuple[str, str]) -> Comparison:
    """Settings whose value or verdict differs, the more severe first. Processes are left out: they come and go."""
    ours, theirs = _by_place(left), _by_place(right)
    keys = {**dict.fromkeys(ours), **dict.fromkeys(theirs)}
    found: list[tuple[int, Difference]] = []
    for tunable, subject in keys:
        one, other = ours.get((tunable, subject)), theirs.get((tunable, subject))
        if one is not None and other is not None and _same(one, other):
            continue
        known = one or other
        if known is None:
            continue
        found.append(
            (
                -known.severity.rank,
                Difference(
                    tunable=tunable,
                    subject=subject,
                    left=one.observed if one else None,
                    right=other.observed if other else None,
                    left_verdict=one.verdict.value if one else None,
                    right_verdict=other.verdict.value if other else None,
                    why=known.why,
                ),
            )
        )
    found.sort(key=lambda item: (item[0], item[1].tunable, item[1].subject))
    return Comparison(left=names[0], right=names[1], compared=len(keys), differences=tuple(item[1] for item in found))


def _same(one: Finding, other: Finding) -> bool:
    return bool(one.observed == other.observed and one.verdict == other.verdict and one.next_boot == other.next_boot)


def _by_place(report: Report) -> Mapping[tuple[str, str], Finding]:
    numbers: dict[str, int] = {}
    found: dict[tuple[str, str], Finding] = {}
    for finding in report.findings:
        if _PROCESS.search(finding.subject):
            continue
        match = _GPU.match(finding.subject)
        subject = finding.subject
        if match:
            number = numbers.setdefault(match.group(0), len(numbers))
            subject = f"gpu {number}{finding.subject[match.end() :]}"
        found[(finding.tunable, subject)] = finding
    return found
