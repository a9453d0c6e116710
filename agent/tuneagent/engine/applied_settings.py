"""What the journal's records add up to: the settings that we changed and have not undone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tuneagent.contracts.journal import Entry, Record, Step
from tuneagent.contracts.values import Lifetime, Setting, Subject


class AppliedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that we changed and have not undone. `baseline` is its value before our first write.

    `last` is the entry of the newest intention alone, for recovery.
    """

    tunable: str
    subject: Subject
    baseline: Setting
    wrote: Setting
    prior: Setting
    live: bool
    entries_baseline: dict[str, str | None]
    entries_wrote: dict[str, str | None]
    last: Entry
    lifetime: Lifetime
    boot_id: str
    kernel: str
    driver: str
    profile: str
    revision: str
    plan: str
    time: float
    step: Step

    def record(self, step: Step, entry: Entry, *, time: float | None = None, reason: str = "") -> Record:
        """A record about this setting, under the plan that wrote it."""
        return Record(
            step=step,
            time=self.time if time is None else time,
            plan=self.plan,
            tunable=self.tunable,
            lifetime=self.lifetime,
            boot_id=self.boot_id,
            kernel=self.kernel,
            driver=self.driver,
            profile=self.profile,
            revision=self.revision,
            reason=reason,
            entries=(entry,),
        )


Key = tuple[str, Subject]


def fold(records: Iterable[Record]) -> dict[Key, AppliedSetting]:
    """Settings held after all records, in the order of their first write."""
    held: dict[Key, AppliedSetting] = {}
    earlier: dict[Key, AppliedSetting | None] = {}
    for record in records:
        for entry in record.entries:
            key = (record.tunable, entry.subject)
            before = held.get(key)
            if record.step == "undone":
                held.pop(key, None)
            elif record.step == "intended":
                earlier[key] = before
                held[key] = _hold(record, entry, before)
            elif record.step == "reverted":
                previous = earlier.get(key)
                held.pop(key, None)
                if previous is not None:
                    held[key] = previous
            elif before is not None and record.step == "left":
                held[key] = msgspec.structs.replace(before, step=record.step, wrote=entry.wrote)
            elif before is not None:
                held[key] = msgspec.structs.replace(before, step=record.step)
    return held


def _hold(record: Record, entry: Entry, before: AppliedSetting | None) -> AppliedSetting:
    baseline, live, lifetime = entry.prior, entry.live, record.lifetime
    entries_baseline, entries_wrote = dict(entry.entries_prior), dict(entry.entries_wrote)
    if before is not None:
        # What a reboot or driver reload took away is no longer ours: the value found then is the new baseline.
        ended = before.lifetime is not Lifetime.PERSISTENT and before.boot_id != record.boot_id
        baseline = entry.prior if ended else before.baseline
        # A later repair may touch the running value alone, or our file alone: what stands of earlier writes is held.
        live = entry.live or (before.live and not ended)
        entries_baseline = {**entries_baseline, **before.entries_baseline}
        entries_wrote = {**before.entries_wrote, **entries_wrote}
        if entries_wrote:
            lifetime = Lifetime.PERSISTENT
    return AppliedSetting(
        tunable=record.tunable,
        subject=entry.subject,
        baseline=baseline,
        wrote=entry.wrote,
        prior=entry.prior,
        live=live,
        entries_baseline=entries_baseline,
        entries_wrote=entries_wrote,
        last=entry,
        lifetime=lifetime,
        boot_id=record.boot_id,
        kernel=record.kernel,
        driver=record.driver,
        profile=record.profile,
        revision=record.revision,
        plan=record.plan,
        time=record.time,
        step="intended",
    )


def compact(records: Sequence[Record]) -> list[Record]:
    """The fewest records that fold to the same settings held, baselines included."""
    kept: list[Record] = []
    for held in fold(records).values():
        first = Entry(
            subject=held.subject,
            prior=held.baseline,
            wrote=held.wrote,
            live=held.live,
            entries_prior=held.entries_baseline,
            entries_wrote=held.entries_wrote,
        )
        kept.append(held.record("intended", first))
        if held.step != "intended":
            wrote = held.wrote if held.step == "left" else None
            kept.append(held.record(held.step, Entry(subject=held.subject, wrote=wrote)))
    return kept
