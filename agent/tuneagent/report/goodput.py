"""Goodput in words."""

from __future__ import annotations

from tuneagent.contracts.goodput import Goodput
from tuneagent.report.digits import short
from tuneagent.report.lines import Row, counted, rows_text, wrapped
from tuneagent.report.terminal import clean


def goodput_text(found: Goodput, width: int) -> str:
    """The rate first, then what it is held against, then where the rest went."""
    lines = wrapped(_head(found), width)
    if found.efficiency is not None:
        lines.append(f"{100 * found.efficiency:.1f} % of the possible {short(found.peak_per_second)} each second")
    if found.productive_share is not None:
        share = 100 * found.productive_share
        lines += wrapped(f"{share:.1f} % of the time was productive, at the typical rate of this run", width)
    if found.start_up_seconds is not None:
        lines.append(f"first progress after {short(found.start_up_seconds)} s")
    if found.restarts:
        lines += wrapped(
            f"{counted(found.restarts, 'restart')}; {short(found.lost_units)} {found.unit} were done again", width
        )
    if found.joules is not None:
        lines.append(f"{short(found.joules)} J of all GPUs, {short(found.units_per_joule)} {found.unit} for each joule")
    if found.dollars is not None:
        lines.append(f"{short(found.dollars)} dollars, {short(found.units_per_dollar)} {found.unit} for each dollar")
    if found.losses:
        lines += ["", "What the node saw meanwhile:"]
        rows = [Row("", f"  {one.name}", f"{short(one.value)} {one.unit}") for one in found.losses]
        lines += rows_text(rows, width)
    return "\n".join(clean(line) for line in lines)


def _head(found: Goodput) -> str:
    ended = f", exit code {found.exit_code}" if found.exit_code else ""
    if found.units is None:
        return f"goodput not known: nothing was counted in {short(found.wall_seconds)} s{ended}"
    return (
        f"goodput: {short(found.per_second)} {found.unit} each second "
        f"({short(found.units)} in {short(found.wall_seconds)} s){ended}"
    )
