"""A crashed run to a known state: all new stays, anything between goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Value
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.journal import Journal
from tuneagent.engine.write_back import boot_ended, noted, strange_record, undone_as, write_back
from tuneagent.errors import ReadFailed, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.machine import Host
from tuneagent.tunables.base import AnyTunable


def recover(host: Host, journal: Journal, registry: Mapping[str, AnyTunable]) -> list[Undone]:
    """Resolve what a crash left between intention and end: all new stays, anything between goes back.

    A group that is all-or-nothing goes back as a whole unless all of it is new.
    """
    open_items = [setting for setting in journal.applied().values() if setting.step == "intended"]
    # What a death leaves half-written belongs to a setting that the journal names already.
    named = {setting.tunable for setting in journal.applied().values()}
    drop_ins = [registry[name].drop_in for name in sorted(named) if name in registry]
    for path in {path for drop_in in drop_ins if drop_in is not None for path in drop_in.files}:
        with contextlib.suppress(WriteFailed, ReadFailed):
            host.files.sweep(path)
    if journal.applied() and not host.files.is_kernel:
        # In a tree settings are plain files, each replaced by a rename; an undo that died leaves no open intention.
        for top in ("proc/sys", "sys"):
            with contextlib.suppress(WriteFailed, ReadFailed):
                host.files.sweep_below(top)
    facts = Facts(host)
    unfinished: set[tuple[str, str]] = set()
    states: dict[Key, str] = {}
    for setting in open_items:
        tunable = registry.get(setting.tunable)
        state = "unknown"
        if tunable is not None:
            # What cannot be told of one setting is unknown, and left alone.
            with contextlib.suppress(Exception):
                state = _state(facts, tunable, setting)
        states[(setting.tunable, setting.subject)] = state
        if state != "new" and tunable is not None and tunable.all_or_nothing:
            unfinished.add((setting.tunable, setting.plan))
    resolved = []
    for setting in reversed(open_items):
        state = states[(setting.tunable, setting.subject)]
        if state == "new" and (setting.tunable, setting.plan) not in unfinished:
            found = undone_as(setting, "kept", setting.wrote, "found written after a crash")
            resolved.append(noted(journal, host, "done", setting, "found written after a crash", found))
            continue
        if state in ("unknown", "foreign"):
            resolved.append(undone_as(setting, "conflict", None, f"after a crash its value is {state}; left alone"))
            continue
        tunable = registry[setting.tunable]
        if (strange := strange_record(tunable, setting)) is not None:
            resolved.append(undone_as(setting, "failed", None, strange))
            continue
        live = setting.last.live and not boot_ended(setting, facts)
        problem = write_back(
            facts,
            tunable,
            setting.subject,
            setting.last.prior,
            setting.last.drop_in_prior,
            live=live,
            raw=setting.last.raw,
            journal=journal,
        )
        if problem:
            resolved.append(undone_as(setting, "failed", None, problem))
        else:
            back = undone_as(setting, "undone", setting.last.prior, "taken back after a crash")
            resolved.append(noted(journal, host, "reverted", setting, "taken back after a crash", back))
    return resolved


def _state(facts: Facts, tunable: AnyTunable, setting: AppliedSetting) -> str:
    """`new`, `old`, `mixed`, `foreign` (neither value) or `unknown` (not readable)."""
    if tunable.one_way(setting.subject) is not None:
        # How far it got cannot be determined; repeating it does no harm.
        return "old"
    parts: list[str] = []
    reading = tunable.read(facts, setting.subject)
    if setting.last.live and not boot_ended(setting, facts):
        if not isinstance(reading.live, Value):
            return "unknown"
        if reading.live.value == setting.wrote:
            parts.append("new")
        else:
            parts.append("old" if reading.live.value == setting.last.prior else "foreign")
    wanted = setting.last.drop_in_wrote
    if wanted and tunable.drop_in is not None:
        try:
            own = tunable.drop_in.entries(facts)
        except ReadFailed:
            return "unknown"
        now = {key: own.get(key) for key in wanted}
        parts.append("new" if now == wanted else "old")
        if tunable.drop_in.generates and reading.persisted != Value(setting.wrote):
            parts.append("old")
    if "foreign" in parts:
        return "foreign"
    if not parts:
        return "old"
    return parts[0] if len(set(parts)) == 1 else "mixed"
