"""What one pass found on a host, read once and handed on to whatever follows: report, plan, apply, status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from tuneagent import __version__
from tuneagent.contracts.report import Finding, HostName, Report, summarize
from tuneagent.contracts.values import Absent, Reading, Subject
from tuneagent.engine.assess import Assessment, assess
from tuneagent.engine.observe import Observed, observe, observe_again
from tuneagent.errors import ReadFailed, UsageError
from tuneagent.facts.host_name import host_name, machine_of
from tuneagent.facts.one_pass import Facts
from tuneagent.host.machine import Host
from tuneagent.profile_files.document import Profile
from tuneagent.tunables.base import AnyTunable

if TYPE_CHECKING:
    from tuneagent.contracts.plan import Plan
    from tuneagent.engine.applied_settings import AppliedSetting, Key
    from tuneagent.engine.journal import Journal


class HostAssessment(msgspec.Struct, frozen=True, dict=True):
    """A host compared with a profile, and what the journal says of it at that moment."""

    facts: Facts
    profile: Profile
    registry: Mapping[str, AnyTunable]
    observed: tuple[Observed, ...]
    # Returns the journal when it is needed: an audit does not need it.
    journal_of: Callable[[], Journal]
    today: date
    host: HostName

    @classmethod
    def of(
        cls,
        facts: Facts,
        profile: Profile,
        registry: Mapping[str, AnyTunable],
        journal_of: Callable[[], Journal],
        today: date,
        *,
        with_machine: bool = False,
    ) -> HostAssessment:
        """Read the host, with what it is made of if asked. The journal is read only where it is needed."""
        observed = tuple(observe(facts, registry))
        host = machine_of(facts) if with_machine else host_name(facts.host)
        facts.close()
        return cls(facts, profile, registry, observed, journal_of, today, host)

    @cached_property
    def applied(self) -> Mapping[Key, AppliedSetting]:
        """What the journal says of this host. Raises JournalError."""
        return self.journal_of().applied()

    @cached_property
    def assessments(self) -> tuple[Assessment, ...]:
        """Every finding with what a plan would write for it."""
        return tuple(assess(self.observed, self.profile.spec.accept, self.today))

    @cached_property
    def report(self) -> Report:
        """Findings as the one structure that all views show."""
        findings = tuple(item.finding for item in self.assessments)
        return Report(
            tool={"name": "tuneagent", "version": __version__},
            host=self.host,
            profile=self.profile.identity,
            summary=summarize(findings),
            findings=findings,
        )

    def findings_of(self, chosen: set[Key] | None) -> tuple[Finding, ...]:
        """Findings of the settings that were chosen; all for None."""
        return tuple(one for one in self.report.findings if chosen is None or (one.tunable, one.subject) in chosen)

    @cached_property
    def plan(self) -> Plan:
        """What `apply` would do now."""
        return self._plan(assume_idle=False)

    @cached_property
    def plan_when_idle(self) -> Plan:
        """What `apply` would do if nothing on the host were in use."""
        return self._plan(assume_idle=True)

    def _plan(self, *, assume_idle: bool) -> Plan:
        from tuneagent.engine.plan import make_plan

        # What a crash left open may not have been done.
        done = {key for key, setting in self.applied.items() if setting.step != "intended"}
        return make_plan(self.assessments, self.registry, self._dropped(), done, assume_idle=assume_idle)

    def _dropped(self) -> list[AppliedSetting]:
        """Settings that an earlier revision or another profile wrote and this profile does not name.

        A subject that cannot be listed now says nothing: only tunables that were read count as no longer named.
        """
        named = {(item.finding.tunable, item.finding.subject) for item in self.assessments}
        specs = self.profile.spec.tune
        blind = {item.finding.tunable for item in self.assessments if item.finding.subject == "host"}
        return [
            setting
            for key, setting in self.applied.items()
            if key not in named
            and not _is_offline(self.facts.host, setting.subject)
            and setting.tunable in self.registry
            and (setting.tunable not in specs or setting.tunable not in blind)
            and setting.step != "intended"
            and not _stays(self.facts, self.registry[setting.tunable], setting.subject)
        ]

    def after(self, facts: Facts, verified: Mapping[Key, Reading | None]) -> HostAssessment:
        """The host after writes: what was written is as it was read back, or is read anew where that is None.

        So is what waited for it in tunables that come after. Everything else stands as it was found.
        """
        changed: dict[str, dict[Subject, Reading | None]] = {}
        for (tunable, subject), reading in verified.items():
            changed.setdefault(tunable, {})[subject] = reading
        open_ones = {(one.finding.tunable, one.finding.subject) for one in self.assessments if one.finding.is_open}
        observed = []
        for one in self.observed:
            subjects = dict(changed.get(one.tunable.name, {}))
            if any(name in changed for name in one.tunable.after):
                waiting = [subject for subject in one.readings if (one.tunable.name, subject) in open_ones]
                subjects = {**dict.fromkeys(waiting), **subjects}
            known = {subject: reading for subject, reading in subjects.items() if subject in one.readings}
            observed.append(observe_again(facts, one, known) if known else one)
        return msgspec.structs.replace(self, facts=facts, observed=tuple(observed))

    @property
    def names(self) -> dict[Key, str]:
        """What each setting that was found or is held is called."""
        from tuneagent.engine.names import names_of

        return names_of(self.report.findings, self.applied, self.registry)

    def chosen(self, only: Sequence[str]) -> set[Key] | None:
        """Settings that `--only` means, None where it was not given. Raises UsageError for a name of nothing.

        A tunable that neither the profile names nor the journal holds is such a name: it would be checked for nothing.
        """
        if not only:
            return None
        from tuneagent.engine.names import chosen

        names = self.names
        known = {*self.profile.spec.tune, *(tunable for tunable, _ in names)}
        for word in only:
            if word in self.registry and word not in known:
                raise UsageError(f"--only {word}: profile {self.profile.name} does not name this tunable")
        return chosen(only, names, self.registry)

    def finding(self, key: Key) -> Finding | None:
        """The finding of one setting."""
        found = (one.finding for one in self.assessments if (one.finding.tunable, one.finding.subject) == key)
        return next(found, None)


def _is_offline(host: Host, subject: str) -> bool:
    """Whether a subject belongs to a CPU that exists but is offline, such as an SMT sibling: it is not gone."""
    number = subject.removeprefix("cpu:").partition("/")[0]
    if not subject.startswith("cpu:") or not number.isdigit():
        return False
    try:
        return host.files.read_or(f"sys/devices/system/cpu/cpu{number}/online", "1") == "0"
    except ReadFailed:
        return True


def _stays(facts: Facts, tunable: AnyTunable, subject: str) -> bool:
    """Whether a change that cannot be taken back is still in force: its subject is there."""
    try:
        return tunable.one_way(subject) is not None and not isinstance(tunable.read(facts, subject).live, Absent)
    except Exception:  # a row that this version does not know: undo says so of it
        return False
