"""What the journal's records add up to: the settings that we changed and have not undone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tuneagent.contracts.journal import Record, Step, SubjectRecord
from tuneagent.contracts.values import Lifetime, Setting, Subject

Key = tuple[str, Subject]


class AppliedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that we changed and have not undone. `baseline` is its value before our first write.

    `last` is the newest intention alone, for recovery. `baseline_raw` is the baseline's own text where that differs.
    """

    tunable: str
    subject: Subject
    baseline: Setting
    baseline_raw: str | msgspec.UnsetType = msgspec.UNSET
    wrote: Setting
    live: bool
    drop_in_baseline: dict[str, str | None]
    drop_in_wrote: dict[str, str | None]
    last: SubjectRecord
    lifetime: Lifetime
    boot_id: str
    kernel: str
    driver: str
    profile: str
    revision: str
    plan: str
    time: float
    step: Step

    def record(
        self, step: Step, subject: SubjectRecord | None = None, *, time: float | None = None, reason: str = ""
    ) -> Record:
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
            subjects=(subject or SubjectRecord(subject=self.subject),),
        )


def fold(records: Iterable[Record]) -> dict[Key, AppliedSetting]:
    """Settings applied after all records, in the order of their first write."""
    applied: dict[Key, AppliedSetting] = {}
    earlier: dict[Key, AppliedSetting | None] = {}
    for record in records:
        fold_one(record, applied, earlier)
    return applied


def fold_one(record: Record, applied: dict[Key, AppliedSetting], earlier: dict[Key, AppliedSetting | None]) -> None:
    """Take one more record into `applied`; `earlier` holds what each setting was before its last intention."""
    for subject in record.subjects:
        key = (record.tunable, subject.subject)
        before = applied.get(key)
        if record.step == "undone":
            applied.pop(key, None)
        elif record.step == "intended":
            earlier[key] = before
            applied[key] = _with_intention(record, subject, before)
        elif record.step == "reverted":
            previous = earlier.get(key)
            applied.pop(key, None)
            if previous is not None:
                applied[key] = previous
        elif before is not None and record.step == "left":
            applied[key] = msgspec.structs.replace(before, step=record.step, wrote=subject.wrote)
        elif before is not None:
            applied[key] = msgspec.structs.replace(before, step=record.step)


def _with_intention(record: Record, subject: SubjectRecord, before: AppliedSetting | None) -> AppliedSetting:
    baseline, raw, live, lifetime = subject.prior, subject.raw, subject.live, record.lifetime
    drop_in_baseline, drop_in_wrote = dict(subject.drop_in_prior), dict(subject.drop_in_wrote)
    if before is not None:
        # What a reboot or driver reload took away is no longer ours: the value found then is the new baseline.
        ended = before.lifetime is not Lifetime.PERSISTENT and before.boot_id != record.boot_id
        baseline, raw = (subject.prior, subject.raw) if ended else (before.baseline, before.baseline_raw)
        # A later repair may touch the running value alone, or our file alone: what stands of earlier writes is kept.
        live = subject.live or (before.live and not ended)
        drop_in_baseline = {**drop_in_baseline, **before.drop_in_baseline}
        drop_in_wrote = {**before.drop_in_wrote, **drop_in_wrote}
        if drop_in_wrote:
            lifetime = Lifetime.PERSISTENT
    return AppliedSetting(
        tunable=record.tunable,
        subject=subject.subject,
        baseline=baseline,
        baseline_raw=raw,
        wrote=subject.wrote,
        live=live,
        drop_in_baseline=drop_in_baseline,
        drop_in_wrote=drop_in_wrote,
        last=subject,
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
    """The fewest records that fold to the same settings, baselines included."""
    kept: list[Record] = []
    for setting in fold(records).values():
        first = SubjectRecord(
            subject=setting.subject,
            prior=setting.baseline,
            raw=setting.baseline_raw,
            wrote=setting.wrote,
            live=setting.live,
            drop_in_prior=setting.drop_in_baseline,
            drop_in_wrote=setting.drop_in_wrote,
        )
        kept.append(setting.record("intended", first))
        if setting.step != "intended":
            wrote = setting.wrote if setting.step == "left" else None
            kept.append(setting.record(setting.step, SubjectRecord(subject=setting.subject, wrote=wrote)))
    return kept
