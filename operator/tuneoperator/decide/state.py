"""Turns cluster objects into what decisions need. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from tuneagent.contracts.kubernetes import Node, WorkloadPod
from tuneagent.contracts.node_tuning import NodeTuning
from tuneagent.contracts.tuning_profile import RolloutSpec

from tuneoperator.decide.rollout_model import Limits, NodeState, resolve_limit

# Fewer nodes than this may always lose their profile without an approval.
FREE_LOSSES = 3
LOSS_SHARE = 0.25
NAMESPACE = "tuneagent-system"
# Only on a Node that we cordoned: it shows whose cordon this is, and since when.
CORDON_ANNOTATION = "tuneagent.dev/cordoned"
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def limits_of(rollout: RolloutSpec, selected: int) -> Limits:
    """A profile's roll-out settings with percentages resolved."""
    return Limits(
        max_unavailable=resolve_limit(rollout.max_unavailable, selected),
        max_parallel_live=max(resolve_limit(rollout.max_parallel_live, selected), 1),
        max_unhealthy=resolve_limit(rollout.max_unhealthy, selected),
        canary=min(rollout.canary, selected),
        soak_s=float(rollout.soak_seconds),
        failure_threshold=max(rollout.failure_threshold, 1),
        drain_mode=rollout.drain.mode,
        drain_timeout_s=float(rollout.drain.timeout_seconds),
    )


def cordoned_since(node: Node | None) -> float:
    """When our cordon mark was set, in seconds since 1970; 0 if there is none or it holds no valid time."""
    text = node.metadata.annotations.get(CORDON_ANNOTATION, "") if node is not None else ""
    try:
        return datetime.strptime(text, STAMP).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def is_in_hand(tuning: NodeTuning, node: Node | None) -> bool:
    """Whether the agent may be at work on a grant: it has taken one and has not answered.

    If the node is gone, or its kubelet reports another boot, what the agent had begun is over.
    """
    taken = tuning.status.node.taken
    if taken is None or node is None:
        return False
    boot = node.status.node_info.boot_id
    return not (boot and taken.boot_id) or boot == taken.boot_id


@dataclass(frozen=True)
class Around:
    """What is known about a node besides its own objects. `too_old`: tunables of the target that its agent lacks."""

    agent_ready: bool = False
    too_old: Sequence[str] = ()
    holds_place: bool = False
    idle: bool | None = None
    held_back: bool = False
    is_nobodys: bool = False


def node_state(tuning: NodeTuning, node: Node | None, target: str, around: Around) -> NodeState:
    """One node as decisions see it."""
    agent, rollout, spec = tuning.status.node, tuning.status.rollout, tuning.spec
    return NodeState(
        name=tuning.metadata.name,
        target=target,
        is_nobodys=around.is_nobodys,
        named=spec.revision,
        phase=rollout.phase,
        phase_target=rollout.target,
        since=rollout.since,
        attempts=rollout.attempts,
        previous=rollout.previous,
        cordoned_by_us=CORDON_ANNOTATION in node.metadata.annotations if node else False,
        cordoned_since=cordoned_since(node),
        unschedulable=node.spec.unschedulable if node else False,
        ready=node.ready if node else False,
        agent_ready=around.agent_ready and not around.too_old,
        holds_place=around.holds_place,
        seen=agent.observed_generation >= tuning.metadata.generation,
        answered=agent.observed_generation > 0,
        at_revision=agent.revision,
        at_baseline=agent.baseline,
        not_as_wanted=agent.not_as_wanted,
        error=agent.error,
        refusal=agent.refusal,
        proposed_digest=agent.proposal.digest if agent.proposal else "",
        proposed_disruption=agent.proposal.disruption if agent.proposal else "",
        granted_digest=spec.grant.digest if spec.grant else "",
        granted_disruption=spec.grant.disruption if spec.grant else "",
        granted_boot_id=spec.grant.boot_id if spec.grant else "",
        in_hand=is_in_hand(tuning, node),
        baseline_named=spec.desired == "Baseline",
        held_back=around.held_back,
        boot_id=agent.boot_id,
        kubelet_boot_id=node.status.node_info.boot_id if node else "",
        idle=around.idle,
    )


def holds_gpu(pod: WorkloadPod) -> bool:
    """Whether a pod that still runs holds a GPU, by resource or by claim."""
    if is_over(pod):
        return False
    if pod.spec.resource_claims:
        return True
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    names = {name for one in containers for name in (*one.resources.limits, *one.resources.requests)}
    return any(name.startswith(("nvidia.com/", "amd.com/gpu")) for name in names)


def is_over(pod: WorkloadPod) -> bool:
    """Whether a pod has ended for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def is_killed_by_reboot(pod: WorkloadPod) -> bool:
    """Whether the pod would lose work in a reboot, or in a kubelet restart that goes wrong.

    DaemonSet pods and mirror pods belong to the node; the operator's own pods lose nothing.
    """
    meta = pod.metadata
    if meta.namespace == NAMESPACE and meta.labels.get("app") == "tuneagent-operator":
        return False
    owners = {owner.kind for owner in meta.owner_references}
    mirror = "kubernetes.io/config.mirror" in meta.annotations
    return not is_over(pod) and "DaemonSet" not in owners and not mirror


def stands_in_the_way(pod: WorkloadPod, disruption: str) -> bool:
    """Whether a pod must be gone before a change of this class."""
    return holds_gpu(pod) if disruption in ("gpu", "service") else is_killed_by_reboot(pod)


def needs_approval(losing: Mapping[str, str], governed: int, approved: Collection[str]) -> dict[str, str]:
    """Nodes that may not lose their profile yet, with the revision to be approved for each.

    `losing` maps each node to its revision. Approved revisions may go; of the others, at most a quarter of all
    governed nodes at once.
    """
    waiting = {node: revision for node, revision in losing.items() if revision not in approved}
    return waiting if len(waiting) > max(FREE_LOSSES, int(governed * LOSS_SHARE)) else {}
