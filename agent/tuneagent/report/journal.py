"""The journal for people, and the story of one setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from tuneagent.contracts.journal import Record
from tuneagent.contracts.report import Report
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.errors import UsageError, nearest
from tuneagent.profile_files.document import Profile
from tuneagent.report.text import shown, table


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"not a time: {seconds:g}"


def journal_text(records: Sequence[Record], columns: int | None = None) -> str:
    """One line for each setting of each record, oldest first."""
    rows = []
    for record in records:
        for one in record.subjects:
            change = ""
            if record.step == "intended":
                change = f"{shown(one.prior)} -> {shown(one.wrote)}"
                if not one.live:
                    change = f"{shown(one.wrote)} for the next boot; now {shown(one.prior)}"
                elif one.drop_in_wrote:
                    change += " and for the next boot"
            rows.append(
                [
                    _time(record.time), record.step, record.tunable, one.subject,
                    f"{record.profile} {record.revision}", change or record.reason,
                ]
            )  # fmt: skip
    if not rows:
        return "the journal is empty: tuneagent has written nothing on this host"
    return table(("time", "step", "tunable", "subject", "profile", ""), rows, columns)


def why_text(subject: str, report: Report, held: Mapping[Key, AppliedSetting], profile: Profile) -> str:
    """Everything known of one subject. Raises UsageError for one that the profile is not about."""
    known = {finding.subject for finding in report.findings} | {key[1] for key in held}
    wanted = subject if subject in known else f"key:{subject}"
    if wanted not in known:
        raise UsageError(f"profile {profile.name} is not about {subject!r}{nearest(subject, sorted(known))}")
    lines = [wanted]
    for finding in report.findings:
        if finding.subject != wanted:
            continue
        origin = profile.origins.get(finding.tunable, profile.name)
        lines += [
            f"  verdict    {finding.verdict.value} ({finding.severity.value})",
            f"  found      {shown(finding.observed)}  ({finding.evidence})",
            f"  wanted     {shown(finding.desired)}  ({finding.tunable} of profile {origin})",
            f"  next boot  {shown(finding.next_boot)}",
            f"  owner      {finding.owner or 'nobody else known'}",
            f"  why        {finding.why}",
        ]
        lines += [f"  advice     {finding.advice}"] if finding.advice else []
        lines += [f"  source     {source}" for source in finding.sources]
    for (tunable, name), item in held.items():
        if name == wanted:
            by = f"{tunable}, profile {item.profile} {item.revision}"
            word, rest = "written   ", ""
            if item.step == "intended":
                word, rest = "intended  ", "; a crash left open whether it was, the next apply or undo settles it"
            lines += [
                f"  {word} {shown(item.wrote)} at {_time(item.time)} by {by}{rest}",
                f"  baseline   {shown(item.baseline)}, which `tuneagent undo` brings back",
            ]
    return "\n".join(lines)
