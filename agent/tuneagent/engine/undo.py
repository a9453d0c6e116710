"""A host back to its baseline: every setting that we changed, last written first."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.values import Absent, Lifetime, Unreadable, Value
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.journal import Journal
from tuneagent.engine.write_back import boot_ended, noted, strange_record, undone_as, write_back
from tuneagent.errors import ReadFailed, reason_of
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.spoken_values import in_words
from tuneagent.host.machine import Host
from tuneagent.tunables.base import AnyTunable

NOT_UNDERSTOOD = "not understood by this version"


def undo(
    host: Host,
    journal: Journal,
    registry: Mapping[str, AnyTunable],
    keys: set[Key] | None = None,
    *,
    force: bool = False,
) -> list[Undone]:
    """Bring settings back to their baseline, last written first.

    A value that is no longer the one we wrote is someone else's now: `conflict`, left alone without `force`.
    """
    chosen = [setting for key, setting in reversed(list(journal.applied().items())) if keys is None or key in keys]
    results = _undo_all(host, journal, registry, chosen, force=force)
    # A setting may be held by another one that went back only after it (an energy preference by its governor).
    failed = {(result.tunable, result.subject) for result in results if result.result == "failed"}
    again = [setting for setting in chosen if (setting.tunable, setting.subject) in failed]
    if again and len(again) < len(chosen):
        later = {
            (result.tunable, result.subject): result
            for result in _undo_all(host, journal, registry, again, force=force)
        }
        results = [later.get((result.tunable, result.subject), result) for result in results]
    journal.keep_room()
    return results


def _undo_all(
    host: Host, journal: Journal, registry: Mapping[str, AnyTunable], chosen: list[AppliedSetting], *, force: bool
) -> list[Undone]:
    results = []
    for setting in chosen:
        tunable = registry.get(setting.tunable)
        if tunable is None:
            results.append(undone_as(setting, "failed", None, f"this tuneagent knows no tunable {setting.tunable}"))
            continue
        facts = Facts(host)
        try:
            result = _undo_one(facts, tunable, setting, journal, force=force)
        except Exception as error:  # one row costs that row alone
            results.append(undone_as(setting, "failed", None, f"{reason_of(error)}; it is left as it is"))
            continue
        finally:
            facts.close()
        if result.is_settled:
            result = noted(journal, host, "undone", setting, result.reason or result.result, result)
        results.append(result)
    return results


def foreign_results(journal: Journal) -> list[Undone]:
    """Lines of the journal that this version does not understand, as what undo says of them."""
    return [
        Undone(tunable=one.tunable, subject=subject, result="failed", reason=f"{NOT_UNDERSTOOD} ({one.error}); kept")
        for one in journal.foreign()
        for subject in one.subjects or ("?",)
    ]


def _undo_one(facts: Facts, tunable: AnyTunable, setting: AppliedSetting, journal: Journal, *, force: bool) -> Undone:
    if (strange := strange_record(tunable, setting)) is not None:
        return undone_as(setting, "failed", None, strange)
    ended = setting.lifetime is not Lifetime.PERSISTENT and boot_ended(setting, facts)
    rebooted = boot_ended(setting, facts)
    live = tunable.read(facts, setting.subject).live if setting.live and not ended else None
    if isinstance(live, Absent):
        live, gone = None, True
    else:
        gone = False
    if live is not None and (kept := tunable.one_way(setting.subject)) is not None:
        return undone_as(setting, "ended", None, kept)
    if isinstance(live, Unreadable) and not force:
        return undone_as(setting, "failed", None, f"not read, so not written: {live.error}")
    if isinstance(live, Value) and not force and live.value not in (setting.wrote, setting.baseline):
        found = f"wrote {in_words(setting.wrote)}, found {in_words(live.value)}"
        reason = f"{found}: changed by someone else; --force writes anyway"
        # The running value is theirs, our file is still ours: without it the next boot does not set our value again.
        problem = _foreign_entries(facts, tunable, setting) or write_back(
            facts, tunable, setting.subject, None, setting.drop_in_baseline, live=False, journal=journal
        )
        if setting.drop_in_wrote:
            reason += f"; our file was left: {problem}" if problem else "; our file no longer sets it"
        return undone_as(setting, "conflict", live.value, reason)
    if not force and (problem := _foreign_entries(facts, tunable, setting)):
        return undone_as(setting, "conflict", None, problem)
    problem = write_back(
        facts,
        tunable,
        setting.subject,
        setting.baseline,
        setting.drop_in_baseline,
        live=setting.live and not ended and not gone,
        raw=setting.baseline_raw,
        journal=journal,
    )
    if problem:
        return undone_as(setting, "failed", None, problem)
    if gone:
        return undone_as(setting, "gone", None, "no longer there")
    if ended:
        return undone_as(setting, "ended", None, "a reboot has ended it already")
    reason = "set again by our file at boot, now back to the value before it" if rebooted else ""
    return undone_as(setting, "undone", setting.baseline, reason)


def _foreign_entries(facts: Facts, tunable: AnyTunable, setting: AppliedSetting) -> str | None:
    if not setting.drop_in_wrote or tunable.drop_in is None:
        return None
    try:
        own = tunable.drop_in.entries(facts)
    except ReadFailed as error:
        return f"our file was not read: {error}"
    for key, text in setting.drop_in_wrote.items():
        now = own.get(key)
        if now not in (text, setting.drop_in_baseline.get(key), None):
            was = "not there" if text is None else repr(text)
            return f"/{tunable.drop_in.path}: {key} was {was} when written, now {now!r}"
    return None
