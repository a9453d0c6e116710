"""The story of one setting: what it is, what is wanted, what the next boot makes of it, what we wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tuneagent.contracts.report import Finding, Report
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.names import settings_named
from tuneagent.errors import UsageError, nearest
from tuneagent.host.terminal import width
from tuneagent.profile_files.document import Profile
from tuneagent.report.lines import wrapped
from tuneagent.report.terminal import clean
from tuneagent.report.values import at, found, spoken, wanted


def why_text(
    word: str,
    names: Mapping[Key, str],
    report: Report,
    held: Mapping[Key, AppliedSetting],
    profile: Profile,
    rows: Collection[str] = (),
) -> str:
    """Everything known of the settings that `word` means. Raises UsageError where it means none.

    `rows` are the settings that some profile could name.
    """
    findings = {(one.tunable, one.subject): one for one in report.findings}
    keys = settings_named(word, names)
    if not keys:
        known = sorted({*names.values(), *(key[1] for key in names)})
        other = f"; `tuneagent explain {word}` says what it is, `-p` selects another profile" if word in rows else ""
        raise UsageError(f"profile {profile.name} has no setting {word!r}{other or nearest(word, known)}")
    stories = (_story(key, names[key], findings.get(key), held.get(key), profile) for key in keys)
    limit, below = width(), " " * 13
    return "\n\n".join("\n".join(part for line in lines for part in wrapped(line, limit, below)) for lines in stories)


def _story(key: Key, name: str, finding: Finding | None, setting: AppliedSetting | None, profile: Profile) -> list[str]:
    lines = [clean(name)]
    if finding is not None:
        origin = profile.origins.get(finding.tunable, profile.name)
        lines += [
            f"  verdict    {finding.verdict.value} ({finding.severity.value})",
            f"  found      {found(finding)}  ({clean(finding.evidence)})",
            f"  wanted     {wanted(finding)}  ({finding.tunable} of profile {origin})",
            f"  next boot  {spoken(finding.next_boot, question=finding.disruption is None)}",
            f"  owner      {clean(finding.owner or 'no other owner known')}",
            f"  why        {finding.why}",
        ]
        lines += [f"  advice     {clean(finding.advice)}"] if finding.advice else []
        lines += [f"  source     {source}" for source in finding.sources]
    if setting is not None:
        by = f"{setting.tunable}, profile {clean(setting.profile)} {clean(setting.revision)}"
        word, rest = "written   ", ""
        if setting.step == "intended":
            word, rest = "intended  ", "; a crash left open whether it was, the next apply or undo settles it"
        lines += [
            f"  {word} {spoken(setting.wrote)} at {at(setting.time)} by {by}{rest}",
            f"  baseline   {spoken(setting.baseline)}, which `tuneagent undo` restores",
        ]
    return [*lines, f"  subject    {clean(key[1])}"]
