"""What differs between two hosts, as text."""

from __future__ import annotations

from tuneagent.contracts.values import Setting
from tuneagent.host.terminal import width
from tuneagent.report.lines import Row, rows_text
from tuneagent.report.terminal import clean
from tuneagent.report.text import NameOf, name_shown
from tuneagent.report.values import spoken
from tuneagent.share.comparison import Comparison


def comparison_text(found: Comparison, name_of: NameOf, columns: int | None = None) -> str:
    """What differs, the more severe first."""
    parts = [f"left   {clean(found.left)}", f"right  {clean(found.right)}"]
    if found.differences:
        rows = [
            Row(
                "",
                name_shown(name_of, one.tunable, one.subject),
                f"{_side(one.left, one.left_verdict)} | {_side(one.right, one.right_verdict)}",
                one.why,
            )
            for one in found.differences
        ]
        parts += ["", *rows_text(rows, columns or width())]
    parts += ["", f"{len(found.differences)} of {found.compared} settings differ"]
    return "\n".join(parts)


def _side(value: Setting, verdict: str | None) -> str:
    return "not there" if verdict is None else f"{spoken(value)} ({verdict})"
