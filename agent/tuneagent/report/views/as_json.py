"""A report as the JSON document that its schema describes."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import Report


def render(report: Report, now: float) -> str:
    """One line."""
    del now
    return msgspec.json.encode(report).decode()
