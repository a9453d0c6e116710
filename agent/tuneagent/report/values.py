"""Values of settings for screens: cut to what fits, without control characters."""

from __future__ import annotations

from datetime import datetime, timezone

from tuneagent.contracts.report import Finding
from tuneagent.contracts.values import Setting
from tuneagent.formats.spoken_values import in_words
from tuneagent.report.terminal import clean

_LENGTH_LIMIT = 60


def spoken(value: Setting, *, question: bool = False, limit: int = _LENGTH_LIMIT) -> str:
    """A value in words. `question` is of a check, which is answered by yes or no; a setting is on or off."""
    text = clean(in_words(value, question=question))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def found(finding: Finding, limit: int = _LENGTH_LIMIT) -> str:
    """What a finding found."""
    return spoken(finding.observed, question=finding.disruption is None, limit=limit)


def wanted(finding: Finding, limit: int = _LENGTH_LIMIT) -> str:
    """What a finding wants, with how the value found must compare with it where that is not plain equality."""
    if finding.desired is None:
        return "-"
    text = spoken(finding.desired, question=finding.disruption is None, limit=limit)
    sign = {"atLeast": "at least ", "atMost": "at most ", "oneOf": "one of "}.get(finding.comparison, "")
    return sign + text


def at(seconds: float) -> str:
    """A moment, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"not a time: {seconds:g}"
