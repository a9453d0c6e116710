"""The one door to the engine: a host with its state folder and a profile; observe, apply, undo under its lock."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING

import msgspec

from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_assessment import HostAssessment
from tuneagent.errors import Locked, PathMissing, PlanMoved, ProfileInvalid, ReadFailed, StateFolderUnsafe, UsageError
from tuneagent.facts.one_pass import Facts
from tuneagent.host.machine import Host
from tuneagent.host.state_folder import StateFolder
from tuneagent.profile_files.document import Profile
from tuneagent.tunables.base import AnyTunable
from tuneagent.tunables.registry import registry as all_tunables
from tuneagent.tunables.registry import specs_of

STATE_FOLDER = "var/lib/tuneagent"
HOLD_PATH = "etc/tuneagent/hold"
GOVERNED = "governed-by-cluster"
CONFIRM = "confirm.json"
REVERTED = "reverted.json"
DAEMON_LOCK = "daemon.lock"
EXPERIMENT_LOCK = "experiment.lock"
# There while an experiment runs, and after one that was killed.
EXPERIMENT = "experiment"


if TYPE_CHECKING:
    # An audit loads none of these.
    from tuneagent.contracts.confirmation import Pending, Reverted
    from tuneagent.contracts.outcome import Applied, Outcome, Undone
    from tuneagent.contracts.plan import Change, Plan
    from tuneagent.engine.applied_settings import AppliedSetting, Key
    from tuneagent.engine.journal import Journal


class Confirm(msgspec.Struct, frozen=True):
    """Says that an apply is undone unless it is confirmed in time. `arm` makes sure that something does so then."""

    within_s: float
    arm: Callable[[float], None]


class ApplyResult(msgspec.Struct, frozen=True):
    """What an apply did: the host before it, the plan, what became of each change, and the host after it."""

    before: HostAssessment
    plan: Plan
    outcomes: tuple[Outcome, ...]
    recovered: tuple[Undone, ...]
    after: HostAssessment
    # What `--only` meant; None for everything.
    chosen: set[Key] | None = None

    @property
    def document(self) -> Applied:
        """What `apply -o json` prints."""
        from tuneagent.contracts.outcome import Applied

        return Applied(
            digest=self.plan.digest, results=self.outcomes, recovered=self.recovered, report=self.after.report
        )


class HostTuner(msgspec.Struct, frozen=True, dict=True):
    """A host with its state folder and, where one is needed, a resolved profile."""

    host: Host
    state: StateFolder
    profile: Profile
    registry: Mapping[str, AnyTunable] = msgspec.field(default_factory=all_tunables)
    # Whether naming hardware that is not here is a usage error. One profile serves many nodes of a cluster, and a
    # daemon may outlive a card: there the hardware is reported as gone.
    is_strict: bool = False
    # Whether this is the experiment that holds the host: nothing else writes meanwhile.
    is_experiment: bool = False
    # Shared by copies for another profile, so that a file that has not moved is parsed once.
    shared_journal: Journal | None = None

    @functools.cached_property
    def journal(self) -> Journal:
        """The journal of this host. An audit needs none, and none of its module."""
        from tuneagent.engine.journal import Journal

        return self.shared_journal or Journal(self.state)

    def with_profile(self, profile: Profile) -> HostTuner:
        """The same host and journal under another profile."""
        return msgspec.structs.replace(self, profile=profile, shared_journal=self.journal)

    def specs(self) -> dict[str, object]:
        """Typed specs of the profile. Raises ProfileInvalid."""
        return specs_of(self.profile, self.registry)

    @contextlib.contextmanager
    def locked(self) -> Iterator[Journal]:
        """The host's one lock, with the journal sound and open for writing. Raises Locked, StateFolderUnsafe."""
        self.state.make()
        if not self.is_experiment and self.state.is_locked(EXPERIMENT_LOCK):
            raise Locked("`tuneagent prove` is running on this host: nothing else is written until it ends")
        with self.state.locked("lock"):
            self.journal.open_for_writing()
            yield self.journal

    def observe(self, *, with_machine: bool = False) -> HostAssessment:
        """Read the host, with what it is made of if asked, and compare it with the profile. Writes nothing."""
        specs = self.specs()
        facts = Facts(self.host, specs)
        if self.is_strict:
            wrong = [told for name, spec in specs.items() for told in self.registry[name].not_here(facts, spec)]
            if wrong:
                raise ProfileInvalid([f"spec.tune.{told}" for told in wrong], f"profile {self.profile.name}")
        return HostAssessment.of(
            facts, self.profile, self.registry, lambda: self.journal, self._today(), with_machine=with_machine
        )

    def _today(self) -> date:
        return datetime.fromtimestamp(self.host.now(), timezone.utc).date()

    def apply(  # noqa: PLR0913 - one for each thing that a caller may decide
        self,
        *,
        found: HostAssessment | None = None,
        digest: str | None = None,
        only: tuple[str, ...] = (),
        limit: Disruption = Disruption.LIVE,
        over_other: bool = False,
        again: bool = False,
        live_only: bool = False,
        confirm: Confirm | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> ApplyResult:
        """Plan and write, under the lock. Raises PlanMoved, UsageError, JournalError, Locked.

        `found` is what this pass has observed already; it is used unless the journal has moved since. `limit` is the
        heaviest class of change to make. With `again`, GPU settings that were applied before and that a reloaded
        driver has forgotten are applied again, whatever the limit. With `live_only` nothing is written for the next
        boot.
        """
        from tuneagent.engine.apply import apply, context_of
        from tuneagent.engine.plan import live_part, narrowed
        from tuneagent.engine.recover import recover

        if self.host.files.exists(HOLD_PATH):
            raise UsageError(f"/{HOLD_PATH} is there: nothing is written on this host until it is removed")
        with self.locked() as journal:
            recovered = recover(self.host, journal, self.registry)
            journal.shrink()
            self._refuse_other_profile(journal, over_other=over_other)
            before = found if found is not None and found.applied is journal.applied() else self.observe()
            chosen = before.chosen(only)
            plan = narrowed(before.plan, chosen)
            if live_only:
                plan = live_part(plan, self.registry)
            if digest is not None and digest != plan.digest:
                raise PlanMoved(f"the plan now has digest {plan.digest}, not {digest}: review the new plan")
            repeated = repeats(plan, journal.applied()) if again else set()

            def allowed(change: Change) -> bool:
                return change.disruption.rank <= limit.rank or (change.tunable, change.subject) in repeated

            if confirm is not None:
                self._await_confirmation(plan, limit, confirm)
            with_driver = "gpu" in self.profile.spec.tune
            outcomes, verified = apply(
                before.facts,
                plan,
                journal,
                self.registry,
                context_of(before.facts, self.profile.identity, with_driver=with_driver),
                allowed=allowed,
                undo_applied=lambda key: self._undo_one(journal, key),
                stop=stop,
            )
            after = before.after(before.facts.again(), verified) if verified else before
        return ApplyResult(before, plan, tuple(outcomes), tuple(recovered), after, chosen)

    def undo(self, keys: set[Key] | None = None, *, force: bool = False) -> list[Undone]:
        """Back to the baseline, under the lock. Where nothing was ever written, nothing is made."""
        from tuneagent.engine.journal import NAME
        from tuneagent.engine.recover import recover
        from tuneagent.engine.undo import foreign_results, undo

        if not self.state.exists(NAME):
            # Notes made before a first write that never happened are removed as well.
            for note in (CONFIRM, REVERTED, EXPERIMENT):
                if keys is None and self.state.exists(note):
                    self.state.remove(note)
            return []
        with self.locked() as journal:
            recovered = recover(self.host, journal, self.registry)
            results = undo(self.host, journal, self.registry, keys, force=force)
            if keys is None:
                for note in (CONFIRM, REVERTED, EXPERIMENT):
                    self.state.remove(note)
            # What a crash had left open was settled first; where a setting was then undone, only the undo is reported.
            told = {(result.tunable, result.subject) for result in results}
            kept = foreign_results(journal) if keys is None else []
            return [item for item in recovered if (item.tunable, item.subject) not in told] + results + kept

    def _undo_one(self, journal: Journal, key: Key) -> Undone:
        from tuneagent.engine.undo import undo

        # The plan names only what the journal does, and both were read under this lock.
        (result,) = undo(self.host, journal, self.registry, {key})
        return result

    def _refuse_other_profile(self, journal: Journal, *, over_other: bool) -> None:
        others = sorted({setting.profile for setting in journal.applied().values()} - {self.profile.name})
        if others and not over_other:
            raise UsageError(
                f"profile {others[0]} is applied on this host; `--replace` applies {self.profile.name} over it, "
                "`tuneagent undo` goes back first"
            )

    def _await_confirmation(self, plan: Plan, limit: Disruption, confirm: Confirm) -> None:
        """Note what will be undone, and make sure that something does so. An earlier deadline is not extended."""
        from tuneagent.contracts.confirmation import Pending

        changes = [change for change in plan.changes if change.disruption.rank <= limit.rank]
        if not changes:
            return
        before = self.pending()
        if before is not None and before.deadline <= self.host.now():
            raise UsageError(
                "an earlier apply was not confirmed in time and has not been undone yet: "
                "run `tuneagent undo`, or `tuneagent confirm` to keep it, and apply again"
            )
        keys = {(change.tunable, change.subject) for change in changes} | set(before.keys if before else ())
        deadline = min(self.host.now() + confirm.within_s, before.deadline if before else float("inf"))
        confirm.arm(deadline)
        self.state.remove(REVERTED)
        pending = Pending(plan.digest, deadline, tuple(sorted(keys)))
        self.state.replace(CONFIRM, msgspec.json.encode(pending))

    def pending(self) -> Pending | None:
        """The apply that waits for confirmation. Raises ReadFailed."""
        from tuneagent.contracts.confirmation import Pending

        try:
            return msgspec.json.decode(self.state.read_bytes(CONFIRM), type=Pending)
        except PathMissing:
            return None
        except msgspec.MsgspecError as error:
            raise ReadFailed(f"{self.state.path(CONFIRM)}: {error}") from None

    def forget_reverted(self) -> None:
        """Drop the note of an apply that was not confirmed: another one has come."""
        if self.state.exists(REVERTED):
            self.state.remove(REVERTED)

    def confirm(self) -> bool:
        """Keep what was applied. False where nothing waits."""
        waiting = self.pending() is not None
        self.state.remove(CONFIRM)
        return waiting

    def revert_unconfirmed(self) -> list[Undone] | None:
        """Go back if the deadline has passed. None if there is nothing to do."""
        pending = self.pending()
        if pending is None or self.host.now() < pending.deadline:
            return None
        from tuneagent.contracts.confirmation import Reverted

        results = self.undo(set(pending.keys))
        if all(result.is_settled or result.result == "conflict" for result in results):
            self.state.replace(REVERTED, msgspec.json.encode(Reverted(pending.plan, self.host.now(), len(results))))
            self.state.remove(CONFIRM)
        return results

    def reverted(self) -> Reverted | None:
        """The apply that was not confirmed in time and was undone, until the next one."""
        if not self.state.exists(REVERTED):
            return None
        from tuneagent.contracts.confirmation import Reverted

        try:
            return msgspec.json.decode(self.state.read_bytes(REVERTED), type=Reverted)
        except (PathMissing, ReadFailed, StateFolderUnsafe, msgspec.MsgspecError):
            return None


def repeats(plan: Plan, applied: Mapping[Key, AppliedSetting]) -> set[Key]:
    """GPU changes that restore exactly what was applied on this host before: they were permitted then."""
    from tuneagent.engine.plan import BASELINE

    return {
        (change.tunable, change.subject)
        for change in plan.changes
        if change.disruption is Disruption.GPU
        and change.persistence != BASELINE
        and (before := applied.get((change.tunable, change.subject))) is not None
        and before.step in ("done", "verified")
        and before.wrote == change.desired
    }
