"""One use of the engine on one host: which profile, which state folder, under the host's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import msgspec

from tuneagent import __version__
from tuneagent.contracts.confirmation import Pending
from tuneagent.contracts.outcome import Applied, Undone
from tuneagent.contracts.plan import Change, Plan, digest_of
from tuneagent.contracts.report import Report, summarize
from tuneagent.contracts.values import Absent, Disruption
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.apply import apply, context_of
from tuneagent.engine.assess import Assessment, diff, observe
from tuneagent.engine.journal import Journal
from tuneagent.engine.plan import BASELINE, make_plan
from tuneagent.engine.recover import recover
from tuneagent.engine.undo import foreign_results, undo
from tuneagent.errors import PathMissing, PlanMoved, ProfileInvalid, ReadFailed, UsageError, nearest
from tuneagent.facts.host_name import host_name
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.profile_files.document import Profile
from tuneagent.tunables.base import Tunable
from tuneagent.tunables.registry import registry as all_tunables
from tuneagent.tunables.registry import specs_of

STATE_FOLDER = "var/lib/tuneagent"
HOLD_PATH = "etc/tuneagent/hold"
GOVERNED = "governed-by-cluster"
CONFIRM = "confirm.json"


@dataclass(frozen=True)
class HostTuner:
    """A host with its state folder and, where one is needed, a resolved profile."""

    host: Host
    state: Files
    folder: str
    profile: Profile
    registry: Mapping[str, Tunable[Any]] = field(default_factory=all_tunables)
    # Whether a name of hardware that is not here is wrong use. One profile serves many nodes of a cluster, and a daemon
    # outlives a card: there it is told as gone.
    is_strict: bool = False

    @property
    def journal(self) -> Journal:
        """The journal of this host."""
        return Journal(self.state, self.folder)

    def specs(self) -> dict[str, Any]:
        """Typed specs of the profile. Raises ProfileInvalid."""
        return specs_of(self.profile, self.registry)

    @contextlib.contextmanager
    def locked(self) -> Iterator[Journal]:
        """The host's one lock, with the journal sound and open for writing."""
        self.state.make_folder(self.folder)
        with self.state.locked(f"{self.folder}/lock"):
            journal = self.journal
            journal.open_for_writing()
            yield journal

    def observe(self) -> list[Assessment]:
        """Read the host and compare it with the profile."""
        specs, facts = self.specs(), Facts(self.host)
        observed = observe(facts, specs, self.registry)
        if self.is_strict:
            wrong = [told for name, spec in specs.items() for told in self.registry[name].not_here(facts, spec)]
            if wrong:
                raise ProfileInvalid([f"spec.tune.{told}" for told in wrong], f"profile {self.profile.name}")
        today = datetime.fromtimestamp(self.host.now(), timezone.utc).date()
        return diff(observed, self.profile.spec.accept, today)

    def audit(self) -> Report:
        """Every finding. Writes nothing."""
        return self.report(self.observe())

    def report(self, judged: list[Assessment]) -> Report:
        """Findings as the one structure that all views show."""
        findings = tuple(item.finding for item in judged)
        return Report(
            tool={"name": "tuneagent", "version": __version__},
            host=host_name(self.host),
            profile=self.profile.identity,
            summary=summarize(findings),
            findings=findings,
        )

    def _dropped(self, judged: list[Assessment], kept: Mapping[Key, AppliedSetting]) -> list[AppliedSetting]:
        """Settings that an earlier revision or another profile wrote and this profile does not name.

        A subject that cannot be listed now says nothing: only tunables that were read count as no longer named.
        """
        named = {(item.finding.tunable, item.finding.subject) for item in judged}
        specs = self.profile.spec.tune
        blind = {item.finding.tunable for item in judged if item.finding.subject == "host"}
        return [
            held
            for key, held in kept.items()
            if key not in named
            and not _is_offline(self.host, held.subject)
            and held.tunable in self.registry
            and (held.tunable not in specs or held.tunable not in blind)
            and held.step != "intended"
            and not _stays(Facts(self.host), self.registry[held.tunable], held.subject)
        ]

    def plan(self, only: tuple[str, ...] = ()) -> tuple[Plan, list[Assessment]]:
        """What `apply` would do now. Writes nothing."""
        judged = self.observe()
        return _only(self.plan_of(judged), only, self.registry), judged

    def plan_of(self, judged: list[Assessment], *, assume_idle: bool = False) -> Plan:
        """The plan for what was observed already; with `assume_idle`, as if nothing were in use."""
        # What a crash left open may not have been done.
        kept = self.journal.held()
        done = {key for key, held in kept.items() if held.step != "intended"}
        return make_plan(judged, self.registry, self._dropped(judged, kept), done, assume_idle=assume_idle)

    def apply(
        self,
        *,
        digest: str | None = None,
        only: tuple[str, ...] = (),
        limit: Disruption = Disruption.LIVE,
        replace: bool = False,
        again: bool = False,
        confirm_within_s: float | None = None,
        arm: Callable[[float], None] = lambda deadline: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Applied:
        """Plan and write, under the lock. Raises PlanMoved, UsageError, JournalError, Locked.

        `limit` is the heaviest class of change to make. With `again` settings of GPUs that were applied before and that
        a driver that was loaded anew has forgotten are applied again, whatever the limit.
        """
        if self.host.files.exists(HOLD_PATH):
            raise UsageError(f"/{HOLD_PATH} is there: nothing is written on this host until it is removed")
        with self.locked() as journal:
            recovered = recover(self.host, journal, self.registry)
            journal.shrink()
            self._refuse_other_profile(journal, replace)
            plan, judged = self.plan(only)
            if digest is not None and digest != plan.digest:
                raise PlanMoved(f"the plan now has digest {plan.digest}, not {digest}: look at it again")
            facts = Facts(self.host)
            context = context_of(facts, self.profile.identity, with_driver="gpu" in self.profile.spec.tune)
            repeated = repeats(plan, journal.held()) if again else set()

            def allowed(change: Change) -> bool:
                return change.disruption.rank <= limit.rank or (change.tunable, change.subject) in repeated

            if confirm_within_s is not None:
                self._await_confirmation(plan, limit, confirm_within_s, arm)
            outcomes = apply(
                facts,
                plan,
                journal,
                self.registry,
                context,
                allowed=allowed,
                undo_held=lambda key: _undo_held(self, journal, key),
                stop=stop,
            )
            if outcomes:
                judged = self.observe()
        return Applied(
            digest=plan.digest, results=tuple(outcomes), recovered=tuple(recovered), report=self.report(judged)
        )

    def undo(self, keys: set[Key] | None = None, *, force: bool = False) -> list[Undone]:
        """Back to the baseline, under the lock."""
        with self.locked() as journal:
            recovered = recover(self.host, journal, self.registry)
            results = undo(self.host, journal, self.registry, keys, force=force)
            if keys is None:
                self.state.remove(f"{self.folder}/{CONFIRM}")
            # What a crash had left open was settled first; where it was kept, the undo that followed speaks for it.
            told = {(result.tunable, result.subject) for result in results}
            kept = foreign_results(journal) if keys is None else []
            return [item for item in recovered if (item.tunable, item.subject) not in told] + results + kept

    def _refuse_other_profile(self, journal: Journal, replace: bool) -> None:
        others = sorted({held.profile for held in journal.held().values()} - {self.profile.name})
        if others and not replace:
            raise UsageError(
                f"profile {others[0]} is applied on this host; `--replace` applies {self.profile.name} over it, "
                "`tuneagent undo` goes back first"
            )

    def _await_confirmation(self, plan: Plan, limit: Disruption, within_s: float, arm: Callable[[float], None]) -> None:
        """Note what goes back, and see that something will do it. What waits already waits no longer than it did."""
        changes = [change for change in plan.changes if change.disruption.rank <= limit.rank]
        if not changes:
            return
        before = self.pending()
        keys = {(change.tunable, change.subject) for change in changes} | set(before.keys if before else ())
        deadline = min(self.host.now() + within_s, before.deadline if before else float("inf"))
        arm(deadline)
        pending = Pending(plan.digest, deadline, tuple(sorted(keys)))
        self.state.replace(f"{self.folder}/{CONFIRM}", msgspec.json.encode(pending), mode=0o600)

    def pending(self) -> Pending | None:
        """The apply that waits for confirmation. Raises ReadFailed."""
        try:
            return msgspec.json.decode(self.state.read_bytes(f"{self.folder}/{CONFIRM}"), type=Pending)
        except PathMissing:
            return None
        except msgspec.MsgspecError as error:
            raise ReadFailed(f"{self.folder}/{CONFIRM}: {error}") from None

    def confirm(self) -> bool:
        """Keep what was applied. False where nothing waits."""
        waiting = self.pending() is not None
        self.state.remove(f"{self.folder}/{CONFIRM}")
        return waiting

    def revert_unconfirmed(self) -> list[Undone] | None:
        """Go back if the deadline has passed. None if there is nothing to do."""
        pending = self.pending()
        if pending is None or self.host.now() < pending.deadline:
            return None
        results = self.undo(set(pending.keys))
        if all(result.is_settled or result.result == "conflict" for result in results):
            self.state.remove(f"{self.folder}/{CONFIRM}")
        return results


def repeats(plan: Plan, held: Mapping[Key, AppliedSetting]) -> set[Key]:
    """Changes of GPUs that bring back exactly what this host was given before: leave for these was given then."""
    return {
        (change.tunable, change.subject)
        for change in plan.changes
        if change.disruption is Disruption.GPU
        and change.persistence != BASELINE
        and (before := held.get((change.tunable, change.subject))) is not None
        and before.step in ("done", "verified")
        and before.wrote == change.desired
    }


def _is_offline(host: Host, subject: str) -> bool:
    """Whether a subject is of a CPU that is there and switched off, as an SMT sibling: it is not gone."""
    number = subject.removeprefix("cpu:").partition("/")[0]
    if not subject.startswith("cpu:") or not number.isdigit():
        return False
    try:
        return host.files.read_or(f"sys/devices/system/cpu/cpu{number}/online", "1") == "0"
    except ReadFailed:
        return True


def _stays(facts: Facts, tunable: Tunable[Any], subject: str) -> bool:
    """Whether a change that cannot be taken back is still in force: its subject is there."""
    try:
        return tunable.one_way(subject) is not None and not isinstance(tunable.read(facts, subject).live, Absent)
    except Exception:  # a row that this version does not know: undo says so of it
        return False


def _undo_held(session: HostTuner, journal: Journal, key: Key) -> str | None:
    results = undo(session.host, journal, session.registry, {key})
    problems = [result.reason or result.result for result in results if not result.is_settled]
    return "; ".join(problems) or None


def refuse_unknown(only: tuple[str, ...], registry: Mapping[str, Tunable[Any]]) -> None:
    """Raise UsageError for a name in `--only` that is no tunable's."""
    unknown = [name for name in only if name not in registry]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: no such tunable{nearest(unknown[0], tuple(registry))}")


def _only(plan: Plan, only: tuple[str, ...], registry: Mapping[str, Tunable[Any]]) -> Plan:
    refuse_unknown(only, registry)
    if not only:
        return plan
    changes = tuple(change for change in plan.changes if change.tunable in only)
    refused = tuple(item for item in plan.refused if item.tunable in only)
    return Plan(digest=digest_of(changes), changes=changes, refused=refused)
