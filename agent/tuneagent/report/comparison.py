"""What differs between two hosts, as text."""

from __future__ import annotations

from tuneagent.contracts.values import Setting
from tuneagent.report.terminal import clean
from tuneagent.report.text import shown, table
from tuneagent.share.comparison import Comparison


def comparison_text(found: Comparison, columns: int | None = None) -> str:
    """What differs, the more severe first."""
    parts = [f"left   {clean(found.left)}", f"right  {clean(found.right)}"]
    if found.differences:
        rows = [
            [
                f"{one.tunable} {one.subject}",
                _side(one.left, one.left_verdict),
                _side(one.right, one.right_verdict),
                one.why,
            ]
            for one in found.differences
        ]
        parts += ["", table(("setting", "left", "right", ""), rows, columns)]
    parts += ["", f"{len(found.differences)} of {found.compared} settings differ"]
    return "\n".join(parts)


def _side(value: Setting, verdict: str | None) -> str:
    return "not there" if verdict is None else f"{shown(value)} ({verdict})"
