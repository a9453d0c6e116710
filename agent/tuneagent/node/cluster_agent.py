"""The agent of a cluster node: follows its NodeTuning, applies the revision named there, says what it found.

What is missing changes nothing: without an object, a revision or an API server, the last good revision is kept.
"""

from __future__ import annotations

import contextlib
import threading

import msgspec

from tuneagent import __version__
from tuneagent.contracts.kubernetes import merge_patch
from tuneagent.contracts.kubernetes_writes import Patch, Version, body
from tuneagent.contracts.node_tuning import MESSAGE_LIMIT, NodeReport, OwnTuning, Taken
from tuneagent.contracts.plan import Change, digest_of
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.host_assessment import HostAssessment
from tuneagent.engine.host_tuner import DAEMON_LOCK, GOVERNED, HOLD_PATH, HostTuner
from tuneagent.engine.plan import undo_change
from tuneagent.errors import ReadFailed, TuneError
from tuneagent.host.signals import daemon_stop_event
from tuneagent.node.api_client import ApiFailed, KubeApi, credentials
from tuneagent.node.grants import Grants
from tuneagent.node.last_good import LastGood
from tuneagent.node.log import log, set_up_logging
from tuneagent.node.metrics import Metrics
from tuneagent.node.object_watch import ObjectWatch
from tuneagent.node.passes import Pass, log_failure, next_wait_s, open_findings, run_pass
from tuneagent.node.reboot import reboot_host
from tuneagent.node.status import (
    Proposal,
    drift_message,
    event_of,
    failed_changes,
    needs_grant,
    not_as_wanted,
    proposal_of,
    refusals,
    status_findings,
    waits_for_reboot,
)
from tuneagent.profile_files.document import Profile, parse
from tuneagent.tunables.registry import resolved

GROUP = "/apis/tuneagent.dev/v1alpha1"
NODE_TUNINGS = f"{GROUP}/nodetunings"
POLICY = f"{GROUP}/tuningpolicies/default"
NAMESPACE = "tuneagent-system"
EVENTS_PER_PASS = 10


class NodeAgent:
    """One node. All decisions are made from what was read in the same pass."""

    def __init__(self, tuner: HostTuner, node: str, metrics: Metrics, stop: threading.Event, interval_s: int) -> None:
        self.tuner = tuner
        self.node = node
        self.metrics = metrics
        self.stop = stop
        self.interval_s = interval_s
        # The host was told to reboot: whatever a pass finds meanwhile, the answer comes from the next boot.
        self.is_rebooting = False
        self.api = KubeApi(credentials())
        self.watch = ObjectWatch(self.api, NODE_TUNINGS, node, stop)
        self.last_good = LastGood(tuner.state)
        self.grants = Grants(tuner.state, self._take)
        # What this pass has written of `taken`, which the copy of the object does not show.
        self._server_taken: Taken | None = None

    def serve(self) -> None:
        """Until the stop event."""
        self.tuner.state.replace(GOVERNED, f"{self.node}\n".encode())
        self.watch.start()
        failures = 0
        while not self.stop.is_set():
            try:
                self.once()
                failures = 0
            except Exception as error:  # nothing that a pass meets may end the agent
                failures += 1
                self.metrics.failed()
                log_failure(error)
            self.metrics.beat()
            self.watch.sleep(next_wait_s(self.interval_s, failures))
        log.info("stopped; everything stays as it is")

    def once(self) -> None:
        """Read what is wanted, do it, report it."""
        wanted, is_paused = self._wanted()
        is_paused = is_paused or self.tuner.host.files.exists(HOLD_PATH)
        if not self.is_rebooting:
            # Until the machine goes down this process knows best, whatever becomes of the object.
            self.grants.taken = wanted.status.node.taken if wanted is not None else None
        if wanted is not None and wanted.spec.desired == "Baseline":
            self._to_baseline(wanted, is_paused=is_paused)
            return
        profile, revision, problem, refusal = self._profile(wanted.spec.revision if wanted is not None else "")
        if profile is None:
            self._report(wanted, self._about(self._boot_id(), problem or "no revision yet", refusal))
            return
        self.tuner = self.tuner.with_profile(profile)
        done = self._pass(wanted, is_paused=is_paused)
        self._propose(done)
        about = self._about(done.before.facts.boot_id, problem, refusal)
        about = msgspec.structs.replace(about, revision=revision, paused=is_paused)
        self._report(wanted, self._answer(done, about))

    def _wanted(self) -> tuple[OwnTuning | None, bool]:
        """Our object, and whether the policy stops every write. No object where the API server is away."""
        try:
            raw = self.api.get(f"{NODE_TUNINGS}/{self.node}")
            policy = self.api.get(POLICY) or {}
        except ApiFailed as error:
            log.warning("no API server; the last good revision goes on", extra={"fields": {"error": str(error)}})
            return None, False
        spec = policy.get("spec")
        is_paused = isinstance(spec, dict) and spec.get("pause") == "all"
        try:
            return (msgspec.convert(raw, OwnTuning) if raw is not None else None), is_paused
        except msgspec.ValidationError as error:
            fields = {"error": str(error)}
            log.error("NodeTuning not understood; the last good revision goes on", extra={"fields": fields})
            return None, is_paused

    def _profile(self, named: str) -> tuple[Profile | None, str, str, str]:
        """The profile to follow and its revision; why the one that is named was not taken, and whether for good."""
        profile, revision = self.last_good.read()
        if not named or named == revision:
            return profile, revision, "", ""
        try:
            profile = self._revision(named)
            self.last_good.keep(profile, named)
        except TuneError as error:
            problem = f"revision {named}: {error}"
            log.error("revision not taken", extra={"fields": {"error": problem}})
            # An unreachable server may come back; content that this agent rejects stays as it is.
            return profile, revision, problem, "" if isinstance(error, ApiFailed) else problem
        return profile, named, "", ""

    def _revision(self, name: str) -> Profile:
        found = self.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions/{name}")
        if found is None:
            raise ReadFailed(f"ControllerRevision {name} does not exist")
        profile = resolved(parse(found.get("data"), f"ControllerRevision {name}"), self.tuner.registry)
        if not name.endswith(profile.revision):
            raise ReadFailed(f"its content has revision {profile.revision}: cut, or of a newer version")
        self.tuner.with_profile(profile).specs()
        return profile

    def _pass(self, wanted: OwnTuning | None, *, is_paused: bool) -> Pass:
        granted: Disruption | None = None

        def limit(found: HostAssessment) -> Disruption:
            nonlocal granted
            granted = self._granted(wanted, needs_grant(found.plan), found.facts.boot_id)
            return granted or Disruption.LIVE

        done = run_pass(self.tuner, self.stop, self.metrics, limit, may_write=not is_paused)
        if is_paused:
            return done
        self._events(done)
        if granted is Disruption.REBOOT and self.grants.taken is not None and waits_for_reboot(done.after.report):
            self._reboot(self.grants.taken)
        if not self.is_rebooting:
            self.grants.taken = None
        return done

    def _granted(self, wanted: OwnTuning | None, changes: list[Change], boot_id: str) -> Disruption | None:
        return self.grants.granted(wanted, changes, boot_id, is_rebooting=self.is_rebooting)

    def _reboot(self, taken: Taken) -> None:
        if not self.is_rebooting:
            reboot_host(self.tuner.host, taken.digest)
            self.is_rebooting = True

    def _take(self, tuning: OwnTuning, mine: Taken) -> bool:
        version = Version(tuning.metadata.resource_version)
        patch = Patch(metadata=version, status={"node": {"taken": msgspec.to_builtins(mine)}})
        self.metrics.wrote("status")
        try:
            self.api.patch(f"{NODE_TUNINGS}/{self.node}/status", body(patch))
        except ApiFailed as error:
            log.warning("grant not taken", extra={"fields": {"digest": mine.digest, "error": str(error)}})
            return False
        self._server_taken = mine
        return True

    def _to_baseline(self, wanted: OwnTuning, *, is_paused: bool) -> None:
        """Undo what is live at once; what needs a grant is proposed, and undone when it is granted."""
        problems: list[str] = []
        if not is_paused:
            heavier = self._applied_above_live()
            problems = self._undo({key for key in self.tuner.journal.applied() if key not in heavier})
            back = [undo_change(one, self.tuner.registry) for one in heavier.values()]
            granted = self._granted(wanted, back, self._boot_id()) if back else None
            if granted is not None and self.grants.taken is not None:
                problems += self._undo(set(heavier))
                if granted is Disruption.REBOOT:
                    self._reboot(self.grants.taken)
            if not self.is_rebooting:
                self.grants.taken = None
        left = [undo_change(one, self.tuner.registry) for one in self._applied_above_live().values()]
        self.grants.propose(proposal_of(left))
        is_clean = not self.tuner.journal.applied()
        if is_clean:
            self.last_good.forget()
        report = msgspec.structs.replace(
            self._about(self._boot_id(), "; ".join(problems)),
            baseline=is_clean,
            proposal=self.grants.proposal.summary if self.grants.proposal else None,
            taken=self.grants.taken,
            paused=is_paused,
        )
        self._report(wanted, report)

    def _boot_id(self) -> str:
        return self.tuner.host.files.read_or("proc/sys/kernel/random/boot_id", "")

    def _applied_above_live(self) -> dict[Key, AppliedSetting]:
        registry = self.tuner.registry
        return {
            key: setting
            for key, setting in self.tuner.journal.applied().items()
            if key[0] in registry and registry[key[0]].disruption is not Disruption.LIVE
        }

    def _undo(self, keys: set[Key]) -> list[str]:
        if not keys:
            return []
        return [f"{item.subject}: {item.reason}" for item in self.tuner.undo(keys) if not item.is_settled]

    def _about(self, boot_id: str, problem: str, refusal: str = "") -> NodeReport:
        return NodeReport(
            version=__version__,
            boot_id=boot_id,
            tunables=tuple(sorted(self.tuner.registry)),
            error=problem[:MESSAGE_LIMIT],
            refusal=refusal[:MESSAGE_LIMIT],
        )

    def _propose(self, done: Pass) -> None:
        """Propose what an emptied node would do; what is in use now is in it."""
        before = self.grants.proposed
        proposal = proposal_of(needs_grant(done.after.plan_when_idle))
        if proposal is None and waits_for_reboot(done.after.report):
            # All is written and the reboot is to come: the proposal stands until the boot has changed.
            same = before is not None and before.disruption is Disruption.REBOOT
            proposal = before if same else Proposal(digest_of(()), Disruption.REBOOT)
        self.grants.propose(proposal)

    def _answer(self, done: Pass, about: NodeReport) -> NodeReport:
        after, registry = done.after, self.tuner.registry
        failures = failed_changes(done.outcomes)
        report = msgspec.structs.replace(
            about,
            summary=after.report.summary,
            findings=status_findings(open_findings(after.report)),
            error="; ".join(part for part in (about.error, *failures) if part)[:MESSAGE_LIMIT],
            taken=self.grants.taken,
        )
        if self.tuner.profile.spec.drift != "repair":
            return report
        return msgspec.structs.replace(
            report,
            proposal=self.grants.proposal.summary if self.grants.proposal else None,
            refusal=about.refusal or refusals(after.assessments, registry)[:MESSAGE_LIMIT],
            not_as_wanted=not_as_wanted(after.plan_when_idle, after.assessments, registry),
        )

    def _report(self, wanted: OwnTuning | None, report: NodeReport) -> None:
        """Write `status.node` where it differs from what the server has. No object, no write."""
        if wanted is None:
            return
        report = msgspec.structs.replace(report, observed_generation=wanted.metadata.generation)
        before = wanted.status.node
        if self._server_taken is not None:
            before = msgspec.structs.replace(before, taken=self._server_taken)
            self._server_taken = None
        changed = merge_patch(before, report)
        if not changed:
            return
        self.metrics.wrote("status")
        try:
            self.api.patch(f"{NODE_TUNINGS}/{self.node}/status", body(Patch(status={"node": changed})))
        except ApiFailed as error:
            log.warning("status not written", extra={"fields": {"error": str(error)}})

    def _events(self, done: Pass) -> None:
        """An Event for each drift repaired: value wanted, value found, who may have changed it."""
        repaired = {(one.tunable, one.subject): one for one in done.outcomes if one.result in ("verified", "failed")}
        # Drift is what was right before: what this plan wrote for the first time is not drift.
        known = done.before.applied
        drifted = [finding for finding in done.before.report.findings if finding.verdict is Verdict.DRIFTED]
        for finding in drifted[:EVENTS_PER_PASS]:
            key = (finding.tunable, finding.subject)
            if key not in repaired or key not in known:
                continue
            outcome = repaired[key]
            reason = "DriftRepaired" if outcome.result == "verified" else "RepairFailed"
            message = drift_message(finding, self.tuner.registry[finding.tunable], done.before.facts)
            self.metrics.wrote("event")
            with contextlib.suppress(ApiFailed):
                event = event_of(self.node, reason, message + (f"; {outcome.reason}" if outcome.reason else ""))
                self.api.call("POST", "/api/v1/namespaces/default/events", body(event))


def serve_cluster(tuner: HostTuner, node: str, interval_s: int, metrics_address: str) -> int:
    """Check and repair as this node's NodeTuning says, until SIGTERM."""
    set_up_logging()
    metrics = Metrics()
    metrics.serve(metrics_address)
    tuner.state.make()
    with daemon_stop_event() as stop, tuner.state.locked(DAEMON_LOCK):
        agent = NodeAgent(tuner, node, metrics, stop, interval_s)
        agent.serve()
    return 1 if agent.watch.died else 0
