"""The journal for people: a line for each change, grouped by the apply that made it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.host.terminal import width
from tuneagent.report.lines import Row, rows_text
from tuneagent.report.terminal import clean
from tuneagent.report.text import NameOf, name_shown
from tuneagent.report.values import at, spoken

EMPTY = "the journal is empty: tuneagent has written nothing on this host"


class _Change(msgspec.Struct):
    """One setting of an apply: its intention, and the last that the journal says about it."""

    tunable: str
    intended: SubjectRecord
    last: Record


class _Apply(msgspec.Struct):
    """The records of one plan that was carried out."""

    first: Record
    changes: dict[tuple[str, str], _Change]


def journal_text(
    records: Sequence[Record], name_of: NameOf, columns: int | None = None, *, not_understood: int = 0
) -> str:
    """Every apply, oldest first, and how many lines this version does not understand."""
    limit = columns or width()
    parts = []
    for apply in _applies(records):
        first = apply.first
        rows = [_row(change, first, name_of) for change in apply.changes.values()]
        head = f"{at(first.time)}  profile {clean(first.profile)} {clean(first.revision)}, plan {first.plan}"
        parts.append("\n".join([head, *(f"  {line}" for line in rows_text(rows, limit - 2))]))
    if not_understood:
        parts.append(f"{not_understood} lines are not understood by this version; they are kept")
    return "\n\n".join(parts) or EMPTY


def _applies(records: Sequence[Record]) -> list[_Apply]:
    """Records by plan. The same plan carried out again, after it was undone, is another apply."""
    found: list[_Apply] = []
    for record in records:
        for one in record.subjects:
            key = (record.tunable, one.subject)
            if record.step != "intended" and (held := [apply.changes[key] for apply in found if key in apply.changes]):
                # An undo reverts everything that we ever wrote to the setting, any other step only the latest write.
                for change in held if record.step == "undone" else held[-1:]:
                    if change.last.step not in ("undone", "reverted") or record.step == "reverted":
                        change.last = record
                continue
            if not found or found[-1].first.plan != record.plan or key in found[-1].changes:
                found.append(_Apply(record, {}))
            found[-1].changes[key] = _Change(record.tunable, one, record)
    return found


def _row(change: _Change, first: Record, name_of: NameOf) -> Row:
    one, last = change.intended, change.last
    values = f"{spoken(one.prior)} -> {spoken(one.wrote)}"
    if not one.live:
        values = f"{spoken(one.wrote)} for the next boot; {spoken(one.prior)} until then"
    elif one.drop_in_wrote:
        values += ", and at boot"
    name = name_shown(name_of, change.tunable, one.subject)
    if last.step == "intended":
        return Row("open", name, values, "a crash left open whether it was made")
    told = last.reason if last.step not in ("done", "verified") or last.reason else ""
    when = at(last.time) if last.step in ("undone", "reverted", "left") and last.time != first.time else ""
    remark = ", ".join(part for part in (when, clean(told)) if part)
    return Row(last.step, name, values, remark)
