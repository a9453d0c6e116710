"""From cluster objects to what decisions need. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneagent.tuning_profile import Rollout

from tuneoperator.records import Node, NodeTuning, TuningPolicy
from tuneoperator.rollout import Limits, NodeState, resolve_limit

# Fewer nodes than this may always lose their profile without an approval.
FREE_LOSSES = 3
LOSS_SHARE = 0.25
NAMESPACE = "tuneagent-system"
CORDON_ANNOTATION = "tuneagent.dev/cordoned"


def limits_of(rollout: Rollout, selected: int) -> Limits:
    """A profile's settings with per cents resolved."""
    return Limits(
        max_unavailable=resolve_limit(rollout.maxUnavailable, selected),
        max_parallel_live=max(resolve_limit(rollout.maxParallelLive, selected), 1),
        max_unhealthy=resolve_limit(rollout.maxUnhealthy, selected),
        canary=min(rollout.canary, selected),
        soak_s=float(rollout.soak_s),
        failure_threshold=max(rollout.failureThreshold, 1),
        drain_mode=rollout.drain.mode,
        drain_timeout_s=float(rollout.drain.timeout_s),
    )


def node_state(
    tuning: NodeTuning,
    node: Node | None,
    target: str,
    *,
    agent_ready: bool,
    too_old: Sequence[str] = (),
    holds_place: bool = False,
    idle: bool | None = None,
    held_back: bool = False,
) -> NodeState:
    """One node. `too_old` names tunables of the target that its agent does not know."""
    agent, rollout, spec = tuning.status.node, tuning.status.rollout, tuning.spec
    return NodeState(
        name=tuning.metadata.name,
        target=target,
        named=spec.revision,
        phase=rollout.phase,
        phase_target=rollout.target,
        since=rollout.since,
        attempts=rollout.attempts,
        previous=rollout.previous,
        cordoned_by_us=rollout.cordoned_by_us,
        unschedulable=node.spec.unschedulable if node else False,
        ready=node.ready if node else False,
        agent_ready=agent_ready and not too_old,
        holds_place=holds_place,
        seen=agent.observed_generation >= tuning.metadata.generation,
        at_revision=agent.revision,
        at_baseline=agent.baseline,
        drifted=agent.left,
        error=agent.error,
        pending_digest=agent.pending.digest if agent.pending else "",
        pending_disruption=agent.pending.disruption if agent.pending else "",
        granted_digest=spec.grant.digest if spec.grant else "",
        granted_disruption=spec.grant.disruption if spec.grant else "",
        cordon_is_ours=CORDON_ANNOTATION in node.metadata.annotations if node else False,
        baseline_named=spec.desired == "Baseline",
        held_back=held_back,
        boot_id=agent.boot_id,
        boot_id_before=rollout.boot_id,
        idle=idle,
    )


def holds_gpu(pod: Mapping[str, Any]) -> bool:
    """Whether a pod that still runs holds a GPU, by resource or by claim."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    spec = pod.get("spec", {})
    if spec.get("resourceClaims"):
        return True
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources", {})
        for kind in ("limits", "requests"):
            if any(str(name).startswith(("nvidia.com/", "amd.com/gpu")) for name in resources.get(kind) or {}):
                return True
    return False


def is_evictable(pod: Mapping[str, Any]) -> bool:
    """Whether eviction makes sense: not a DaemonSet's pod, not a mirror of a static one, not one of ours."""
    meta = pod.get("metadata", {})
    if meta.get("namespace") == NAMESPACE:
        return False
    owners = {owner.get("kind") for owner in meta.get("ownerReferences") or ()}
    return "DaemonSet" not in owners and "kubernetes.io/config.mirror" not in (meta.get("annotations") or {})


def needs_approval(losing: Mapping[str, str], governed: int, policy: TuningPolicy | None) -> dict[str, str]:
    """Nodes that may not lose their profile yet, with the revision to be approved for each.

    `losing` is node to the revision that it has. Revisions in `spec.approve` may go; of the others at most a
    quarter of all governed nodes at once.
    """
    approved = set(policy.spec.approve) if policy is not None else set()
    waiting = {node: revision for node, revision in losing.items() if revision not in approved}
    return waiting if len(waiting) > max(FREE_LOSSES, int(governed * LOSS_SHARE)) else {}
