"""The agent of a cluster node: follows its NodeTuning, applies the revision named there, says what it found.

What is missing changes nothing: without an object, a revision or an API server the last good revision goes on.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from tuneagent import __version__
from tuneagent.contracts.plan import Plan, digest_of
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption, Lifetime
from tuneagent.engine.applied_settings import AppliedSetting, Key
from tuneagent.engine.assess import Assessment
from tuneagent.engine.host_tuner import GOVERNED, HOLD_PATH, HostTuner
from tuneagent.engine.plan import undo_change
from tuneagent.errors import PathMissing, ReadFailed, TuneError
from tuneagent.host.signals import daemon_stop_event
from tuneagent.node.api_client import ApiFailed, KubeApi, credentials
from tuneagent.node.confirmation import DAEMON_LOCK
from tuneagent.node.log import set_up_logging
from tuneagent.node.metrics import Metrics
from tuneagent.node.passes import Pass, log_failure, next_wait_s, open_findings, run_pass
from tuneagent.node.reboot import reboot_host
from tuneagent.node.status import (
    Proposal,
    Taken,
    TargetKey,
    drift_message,
    event_of,
    failed_changes,
    grant_of,
    needs_grant,
    pending_of,
    proposal_of,
    refusals,
    status_findings,
    taken_of,
    target_key,
    waits_for_reboot,
)
from tuneagent.profile_files.document import Profile, parse
from tuneagent.tunables.registry import resolved

log = logging.getLogger("tuneagent")

GROUP = "/apis/tuneagent.dev/v1alpha1"
NODE_TUNINGS = f"{GROUP}/nodetunings"
POLICY = f"{GROUP}/tuningpolicies/default"
NAMESPACE = "tuneagent-system"
LAST_GOOD = "revision.json"
EVENTS_PER_PASS = 10
WATCH_S = 240


class NodeAgent:
    """One node. All decisions are made from what was read in the same pass."""

    def __init__(self, session: HostTuner, node: str, metrics: Metrics, stop: threading.Event, interval_s: int) -> None:
        self.session = session
        self.node = node
        self.metrics = metrics
        self.stop = stop
        self.interval_s = interval_s
        self.died = False
        # The host was told to reboot: whatever a pass finds meanwhile, the answer comes from the next boot.
        self.rebooting = False
        self.api = KubeApi(credentials())
        self.wake: queue.Queue[str] = queue.Queue(maxsize=1)
        # First sight of each grant on the monotonic clock: a node whose wall clock is wrong cannot stretch it.
        self.grants: dict[str, float] = {}
        self.offered: Proposal | None = None
        # The grant that we are at work on, as the server has it; cleared with the answer.
        self.taken: Taken | None = None

    def serve(self) -> None:
        """Until the stop event."""
        self.session.state.replace(f"{self.session.folder}/{GOVERNED}", f"{self.node}\n".encode())
        threading.Thread(target=self._keep_watching, name="watch", daemon=True).start()
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
            self._sleep(next_wait_s(self.interval_s, failures))
        log.info("stopped; everything stays as it is")

    def _sleep(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not self.stop.is_set() and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self.wake.get(timeout=min(left, 1.0))
                return

    def _keep_watching(self) -> None:
        """Watch until the stop event. Where that ends by itself the agent ends too, and is started anew."""
        try:
            self._watch()
        except BaseException:
            log.exception("the watch has ended")
        if not self.stop.is_set():
            self.died = True
            self.stop.set()

    def _watch(self) -> None:
        """Wake the loop at each change of our object or of the policy; the loop itself reads."""
        version = "0"
        while not self.stop.is_set():
            try:
                for event in self.api.watch(NODE_TUNINGS, self.node, version, WATCH_S):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._nudge()
            except (ApiFailed, KeyError, TypeError, ValueError) as error:
                version = "0"
                after = error.retry_after_s if isinstance(error, ApiFailed) else None
                self.stop.wait(after or next_wait_s(2.0, 1))

    def _nudge(self) -> None:
        with contextlib.suppress(queue.Full):
            self.wake.put_nowait("changed")

    def once(self) -> None:
        """Read what is wanted, do it, report it."""
        try:
            wanted = self.api.get(f"{NODE_TUNINGS}/{self.node}")
            policy = self.api.get(POLICY) or {}
        except ApiFailed as error:
            log.warning("no API server; the last good revision goes on", extra={"fields": {"error": str(error)}})
            wanted, policy = None, {}
        paused = (policy.get("spec") or {}).get("pause") == "all" or self.session.host.files.exists(HOLD_PATH)
        spec = (wanted or {}).get("spec") or {}
        if not self.rebooting:
            # Until the machine goes down this process knows best, whatever becomes of the object.
            self.taken = taken_of(wanted) if wanted is not None else None
        if wanted is not None and spec.get("desired") == "Baseline":
            self._to_baseline(wanted, paused=paused)
            return
        problem, refusal = "", ""
        profile, revision = self._last_good()
        if spec.get("revision") and spec["revision"] != revision:
            try:
                profile = self._revision(spec["revision"])
                revision = spec["revision"]
                self._keep(profile, revision)
            except TuneError as error:
                problem = f"revision {spec['revision']}: {error}"
                # A server that is away mends itself; content that this agent will not take does not.
                refusal = "" if isinstance(error, ApiFailed) else problem
                log.error("revision not taken", extra={"fields": {"error": problem}})
        if profile is None:
            about = {"error": problem or "no revision yet", "refusal": refusal, "taken": None}
            self._report(wanted, {"revision": "", **about, **self._about()})
            return
        self.session = replace(self.session, profile=profile)
        done = self._pass(wanted, paused=paused)
        status = self._status(done, revision, problem, paused=paused)
        if refusal:
            status["refusal"] = refusal[:1000]
        self._report(wanted, status)

    def _pass(self, wanted: dict[str, Any] | None, *, paused: bool) -> Pass:
        if paused:
            self.offered = None
            judged = self.session.observe()
            return Pass(self.session.report(judged), judged)
        granted = self._granted(wanted, self._aims)
        done = run_pass(self.session, self.stop, self.metrics, granted or Disruption.LIVE)
        self._events(done)
        if granted is Disruption.REBOOT and self.taken is not None and waits_for_reboot(done):
            self._reboot(self.taken)
        if not self.rebooting:
            self.taken = None
        return done

    def _reboot(self, taken: Taken) -> None:
        if not self.rebooting:
            reboot_host(self.session, taken.digest)
            self.rebooting = True

    def _aims(self) -> set[TargetKey]:
        return {target_key(change) for change in needs_grant(self.session.plan()[0])}

    def _granted(self, wanted: dict[str, Any] | None, aims: Callable[[], set[TargetKey]]) -> Disruption | None:
        """Disruption that the operator has granted for what we would do now; None for live changes only.

        The plan may have shrunk since it was offered; anything new in it needs a new grant. A grant is taken before the
        first write by a status write that holds only for the object as it was read: from then on the operator waits
        for our answer, and a grant that it took back meanwhile cannot be taken.
        """
        grant = grant_of(wanted)
        if wanted is None or grant is None or self.session.profile.spec.drift != "repair":
            return None
        if grant.boot_id != self._boot_id():
            log.info("the grant is of another boot", extra={"fields": {"digest": grant.digest}})
            return None
        # The same plan may be granted again later: each grant is an epoch of its own.
        seen = self.grants.setdefault(f"{grant.epoch}/{grant.digest}", time.monotonic())
        mine = Taken(grant.digest, grant.boot_id, grant.epoch)
        if time.monotonic() - seen > grant.lifetime_s and not self.rebooting:
            log.warning("grant has run out", extra={"fields": {"digest": grant.digest}})
            return None
        offered = self.offered or self._kept_offer()
        if (
            offered is None
            or offered.digest != grant.digest
            or not aims() <= {target_key(one) for one in offered.changes}
        ):
            return None
        if self.taken != mine and not self._take(wanted, mine):
            return None
        return grant.disruption

    def _take(self, wanted: dict[str, Any], mine: Taken) -> bool:
        body = {
            "metadata": {"resourceVersion": wanted["metadata"]["resourceVersion"]},
            "status": {"node": {"taken": msgspec.to_builtins(mine)}},
        }
        self.metrics.wrote("status")
        try:
            after = self.api.patch(f"{NODE_TUNINGS}/{self.node}/status", body)
        except ApiFailed as error:
            log.warning("grant not taken", extra={"fields": {"digest": mine.digest, "error": str(error)}})
            return False
        wanted["status"] = after.get("status")
        self.taken = mine
        return True

    def _to_baseline(self, wanted: dict[str, Any], *, paused: bool) -> None:
        """Undo what is live at once; what is heavier is offered, and undone when it is granted."""
        problems: list[str] = []
        if not paused:
            heavy_held = self._heavy_held()
            problems = self._undo({key for key in self.session.journal.held() if key not in heavy_held})
            back = [undo_change(held, self.session.registry) for held in heavy_held.values()]
            granted = self._granted(wanted, lambda: {target_key(change) for change in back}) if back else None
            if granted is not None and self.taken is not None:
                problems += self._undo(set(heavy_held))
                if granted is Disruption.REBOOT:
                    self._reboot(self.taken)
            if not self.rebooting:
                self.taken = None
        left = [undo_change(held, self.session.registry) for held in self._heavy_held().values()]
        self.offered = proposal_of(left)
        self._keep_offer()
        if not self.session.journal.held():
            self.session.state.remove(f"{self.session.folder}/{LAST_GOOD}")
        status = {
            **self._about(),
            "revision": "",
            "baseline": not self.session.journal.held(),
            "observedGeneration": wanted["metadata"].get("generation", 0),
            "error": "; ".join(problems)[:1000],
            "refusal": "",
            "pending": pending_of(self.offered),
            "taken": self._at_work(),
            "left": 0,
            "findings": None,
            "summary": None,
        }
        self._report(wanted, status)

    def _at_work(self) -> dict[str, Any] | None:
        """What `status.node.taken` says: the grant whose answer is still to come."""
        return None if self.taken is None else msgspec.to_builtins(self.taken)

    def _boot_id(self) -> str:
        return self.session.host.files.read_or("proc/sys/kernel/random/boot_id", "")

    def _heavy_held(self) -> dict[Key, AppliedSetting]:
        registry = self.session.registry
        return {
            key: held
            for key, held in self.session.journal.held().items()
            if key[0] in registry and registry[key[0]].disruption is not Disruption.LIVE
        }

    def _undo(self, keys: set[Key]) -> list[str]:
        if not keys:
            return []
        return [f"{item.subject}: {item.reason}" for item in self.session.undo(keys) if not item.is_settled]

    def _revision(self, name: str) -> Profile:
        found = self.api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions/{name}")
        if found is None:
            raise ReadFailed(f"ControllerRevision {name} does not exist")
        profile = resolved(parse(found.get("data"), f"ControllerRevision {name}"), self.session.registry)
        if not name.endswith(profile.revision):
            raise ReadFailed(f"its content has revision {profile.revision}: cut, or of a newer version")
        replace(self.session, profile=profile).specs()
        return profile

    def _keep(self, profile: Profile, revision: str) -> None:
        document = {"revision": revision, "profile": msgspec.to_builtins(profile)}
        self.session.state.replace(f"{self.session.folder}/{LAST_GOOD}", msgspec.json.encode(document), mode=0o600)

    def _last_good(self) -> tuple[Profile | None, str]:
        try:
            raw = self.session.state.read_bytes(f"{self.session.folder}/{LAST_GOOD}")
            document = msgspec.json.decode(raw)
            return msgspec.convert(document["profile"], Profile), str(document["revision"])
        except PathMissing:
            return None, ""
        except (ReadFailed, msgspec.MsgspecError, KeyError, TypeError) as error:
            log.error("kept revision not read", extra={"fields": {"error": str(error)}})
            return None, ""

    def _about(self) -> dict[str, Any]:
        return {"version": __version__, "bootId": self._boot_id(), "tunables": sorted(self.session.registry)}

    def _status(self, done: Pass, revision: str, problem: str, *, paused: bool) -> dict[str, Any]:
        judged = done.judged if done.applied is None else self.session.observe()
        # The offer is what an emptied node would do; what is in use now is in it.
        plan = self.session.plan_of(judged, assume_idle=True)
        before = self.offered or self._kept_offer()
        self.offered = proposal_of(needs_grant(plan))
        if self.offered is None and waits_for_reboot(done):
            # All is written and the reboot is to come: the offer stands until the boot has changed.
            same = before is not None and before.disruption is Disruption.REBOOT
            self.offered = before if same else Proposal(digest_of(()), Disruption.REBOOT)
        self._keep_offer()
        failures = failed_changes(done.applied)
        repairs = self.session.profile.spec.drift == "repair"
        return {
            **self._about(),
            "revision": revision,
            "baseline": False,
            "summary": done.report.summary,
            "findings": status_findings(open_findings(done.report)),
            "pending": pending_of(self.offered) if repairs else None,
            "error": "; ".join(part for part in (problem, *failures) if part)[:1000],
            "refusal": refusals(judged, self.session.registry)[:1000] if repairs else "",
            "taken": self._at_work(),
            "paused": paused,
            "left": self._left(plan, judged) if repairs else 0,
        }

    def _left(self, plan: Plan, judged: list[Assessment]) -> int:
        """Settings that are not as wanted, or not known to be, and that wait for no grant.

        Reports do not count, nor do processes, which come and go.
        """
        offered = {(change.tunable, change.subject) for change in needs_grant(plan)}
        left = {(change.tunable, change.subject) for change in plan.changes} - offered
        for item in judged:
            finding, tunable = item.finding, self.session.registry[item.finding.tunable]
            counts = not tunable.report_only and tunable.lifetime is not Lifetime.PROCESS
            if counts and finding.verdict in (Verdict.DRIFTED, Verdict.CONFLICT, Verdict.UNKNOWN):
                left.add((finding.tunable, finding.subject))
        return len(left - offered)

    def _keep_offer(self) -> None:
        path = f"{self.session.folder}/offer.json"
        if self.offered is None:
            self.session.state.remove(path)
        else:
            self.session.state.replace(path, msgspec.json.encode(self.offered), mode=0o600)

    def _kept_offer(self) -> Proposal | None:
        with contextlib.suppress(PathMissing, ReadFailed, msgspec.MsgspecError):
            return msgspec.json.decode(
                self.session.state.read_bytes(f"{self.session.folder}/offer.json"), type=Proposal
            )
        return None

    def _report(self, wanted: dict[str, Any] | None, status: dict[str, Any]) -> None:
        """Write `status.node` where it differs from what the server has. No object, no write."""
        if wanted is None:
            return
        current = (wanted.get("status") or {}).get("node") or {}
        status = {"observedGeneration": wanted["metadata"].get("generation", 0), **status}
        changed = {key: value for key, value in status.items() if current.get(key) != value}
        if not changed:
            return
        self.metrics.wrote("status")
        try:
            self.api.patch(f"{NODE_TUNINGS}/{self.node}/status", {"status": {"node": changed}})
        except ApiFailed as error:
            log.warning("status not written", extra={"fields": {"error": str(error)}})

    def _events(self, done: Pass) -> None:
        """An Event for each drift repaired: value wanted, value found, who may have changed it."""
        repaired = {
            (outcome.tunable, outcome.subject): outcome
            for outcome in (done.applied.results if done.applied else ())
            if outcome.result in ("verified", "failed")
        }
        held = self.session.journal.held()
        for finding in done.drifted[:EVENTS_PER_PASS]:
            outcome = repaired.get((finding.tunable, finding.subject))
            if outcome is None or (finding.tunable, finding.subject) not in held:
                continue
            reason = "DriftRepaired" if outcome.result == "verified" else "RepairFailed"
            message = drift_message(finding, self.session) + (f"; {outcome.reason}" if outcome.reason else "")
            self.metrics.wrote("event")
            with contextlib.suppress(ApiFailed):
                self.api.call("POST", "/api/v1/namespaces/default/events", event_of(self.node, reason, message))


def serve_cluster(session: HostTuner, node: str, interval_s: int, metrics_address: str) -> int:
    """Check and repair as this node's NodeTuning says, until SIGTERM."""
    set_up_logging()
    metrics = Metrics()
    metrics.serve(metrics_address)
    session.state.make_folder(session.folder)
    with daemon_stop_event() as stop, session.state.locked(f"{session.folder}/{DAEMON_LOCK}"):
        agent = NodeAgent(session, node, metrics, stop, interval_s)
        agent.serve()
    return 1 if agent.died else 0
