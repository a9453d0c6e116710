"""A crashed run to a known state: all new stays, anything between goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Value
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.journal import Journal
from tuneagent.engine.write_back import boot_ended, noted, undone_as, write_back
from tuneagent.errors import ReadFailed, WriteFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.host.machine import Host
from tuneagent.tunables.base import Tunable


def recover(host: Host, journal: Journal, registry: Mapping[str, Tunable[Any]]) -> list[Undone]:
    """Resolve what a crash left between intention and end: all new stays, anything between goes back.

    A group that is all-or-nothing goes back as a whole unless all of it is new.
    """
    open_items = [held for held in journal.held().values() if held.step == "intended"]
    drop_ins = [tunable.drop_in for tunable in registry.values() if tunable.drop_in is not None]
    for path in {path for drop_in in drop_ins for path in drop_in.files}:
        with contextlib.suppress(WriteFailed, ReadFailed):
            host.files.sweep(path)
    facts = Facts(host)
    unfinished: set[tuple[str, str]] = set()
    states: dict[Key, str] = {}
    for held in open_items:
        tunable = registry.get(held.tunable)
        state = "unknown"
        if tunable is not None:
            # What cannot be told of one setting is unknown, and left alone.
            with contextlib.suppress(Exception):
                state = _state(facts, tunable, held)
        states[(held.tunable, held.subject)] = state
        if state != "new" and tunable is not None and tunable.all_or_nothing:
            unfinished.add((held.tunable, held.plan))
    resolved = []
    for held in reversed(open_items):
        state = states[(held.tunable, held.subject)]
        if state == "new" and (held.tunable, held.plan) not in unfinished:
            found = undone_as(held, "undone", held.wrote, "found written, kept")
            resolved.append(noted(journal, host, "done", held, "found written after a crash", found))
            continue
        if state in ("unknown", "foreign"):
            resolved.append(undone_as(held, "conflict", None, f"after a crash its value is {state}; left alone"))
            continue
        tunable = registry[held.tunable]
        live = held.last.live and not boot_ended(held, facts)
        problem = write_back(facts, tunable, held.subject, held.prior, held.last.entries_prior, live=live)
        if problem:
            resolved.append(undone_as(held, "failed", None, problem))
        else:
            back = undone_as(held, "undone", held.prior, "taken back after a crash")
            resolved.append(noted(journal, host, "reverted", held, "taken back after a crash", back))
    return resolved


def _state(facts: Facts, tunable: Tunable[Any], held: AppliedSetting) -> str:
    """`new`, `old`, `mixed`, `foreign` (neither value) or `unknown` (not readable)."""
    if tunable.one_way(held.subject) is not None:
        # How far it came cannot be told; made again it does no harm.
        return "old"
    parts: list[str] = []
    reading = tunable.read(facts, held.subject)
    if held.last.live and not boot_ended(held, facts):
        if not isinstance(reading.live, Value):
            return "unknown"
        if reading.live.value == held.wrote:
            parts.append("new")
        else:
            parts.append("old" if reading.live.value == held.prior else "foreign")
    wanted = held.last.entries_wrote
    if wanted and tunable.drop_in is not None:
        try:
            own = tunable.drop_in.entries(facts)
        except ReadFailed:
            return "unknown"
        now = {key: own.get(key) for key in wanted}
        parts.append("new" if now == wanted else "old")
        if tunable.drop_in.generates and reading.persisted != Value(held.wrote):
            parts.append("old")
    if "foreign" in parts:
        return "foreign"
    if not parts:
        return "old"
    return parts[0] if len(set(parts)) == 1 else "mixed"
