"""What tuneagent holds on a host, as a few lines."""

from __future__ import annotations

from collections.abc import Sequence

from tuneagent.contracts.confirmation import Reverted
from tuneagent.contracts.host_status import HostStatus
from tuneagent.engine.names import short
from tuneagent.host.terminal import width
from tuneagent.report.lines import counted, wrapped
from tuneagent.report.terminal import clean
from tuneagent.report.values import at

_COLUMN = 14


def status_text(status: HostStatus, now: float, columns: int | None = None) -> str:
    """Every line that says something; `now` is in seconds since 1970."""
    rows: list[tuple[str, str]] = []
    for one in status.profiles:
        newest = f", last written {at(one.last)}" if one.last != one.since else ""
        settings = counted(one.settings, "setting")
        rows.append(("profile", f"{clean(one.name)} {clean(one.revision)}: {settings} since {at(one.since)}{newest}"))
    if not status.profiles and not status.not_understood:
        rows.append(("profile", "none: tuneagent has changed nothing on this host"))
    if status.confirm_by is not None:
        rows.append(("confirm", confirmation_text(status.confirm_by, now, len(status.awaits_confirmation))))
    if status.unsettled:
        rows.append(("open", f"{_names(status.unsettled)}: interrupted by a crash; the next apply or undo settles it"))
    if status.not_understood:
        rows.append(("journal", f"{status.not_understood} lines are not understood by this version; they are kept"))
    waiting = _names(status.waits_for_reboot)
    rows.append(("reboot", f"needed for {waiting}" if waiting else "not needed"))
    rows.append(("daemon", "running" if status.daemon else "not running"))
    if status.experiment == "running":
        rows.append(("experiment", "running: it switches settings on and off"))
    elif status.experiment == "interrupted":
        rows.append(("experiment", "was killed, and may have left settings: `tuneagent undo` goes back"))
    if status.governed_by is not None:
        rows.append(("cluster", f"this host is node {clean(status.governed_by)}, and follows its NodeTuning"))
    if status.held:
        rows.append(("hold", "/etc/tuneagent/hold is there: until it is removed, nothing but an undo writes"))
    limit = columns or width()
    lines = []
    for name, text in rows:
        first, *more = wrapped(text, limit - _COLUMN)
        lines += [f"{name.ljust(_COLUMN)}{first}", *(" " * _COLUMN + line for line in more)]
    return "\n".join(lines)


def confirmation_text(deadline: float, now: float, count: int) -> str:
    """What happens when, and what to type."""
    left = int(deadline - now)
    settings = counted(count, "setting")
    if left <= 0:
        return f"{settings} waited for `tuneagent confirm` until {at(deadline)}, and will be undone"
    goes = "is" if count == 1 else "are"
    return (
        f"{settings} {goes} undone in {_span(left)}, at {at(deadline)}, unless you run `tuneagent confirm`; "
        "`tuneagent undo` does so now"
    )


def reverted_text(reverted: Reverted) -> str:
    """That an apply was undone, and why."""
    settings = counted(reverted.settings, "setting")
    return (
        f"plan {reverted.plan} was not confirmed in time: {settings} undone at {at(reverted.time)}; "
        "`tuneagent journal` lists them"
    )


def _span(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _names(names: Sequence[str]) -> str:
    return ", ".join(short(clean(name)) for name in names)
