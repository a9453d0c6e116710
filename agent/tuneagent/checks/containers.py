"""Rows of the container runtime and the kubelet."""

from __future__ import annotations

import re
from collections.abc import Callable

from tuneagent.checks.rows import CheckRow, Compare, Condition, about, among, at_least, equal
from tuneagent.contracts.values import Absent, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import CommandFailed, NoSystemd
from tuneagent.facts.conditions import several_nodes
from tuneagent.facts.kubelet import EVICTION_DEFAULTS, KUBELET_CONFIG, has_kubelet, kubelet_field
from tuneagent.facts.one_pass import Facts

_CONTAINERD = "etc/containerd/config.toml"
_CPU = "https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/"
_TOPOLOGY = "https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/"
_MEMORY = "https://kubernetes.io/docs/tasks/administer-cluster/memory-manager/"
_TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"


def _static_only(name: str, default: Setting) -> Callable[[Facts], Observation]:
    """A field that only matters with the static CPU manager."""

    def read(facts: Facts) -> Observation:
        policy = kubelet_field("cpuManagerPolicy", "none")(facts)
        if policy == Value("none"):
            return Absent("the CPU manager's policy is none")
        return kubelet_field(name, default)(facts) if isinstance(policy, Value) else policy

    return read


def _state_policy(facts: Facts) -> Observation:
    """Policy of the kubelet's state file beside the configured one: it refuses to start when they differ."""
    wanted = kubelet_field("cpuManagerPolicy", "none")(facts)
    if not isinstance(wanted, Value):
        return wanted
    path = "var/lib/kubelet/cpu_manager_state"
    seen = facts.host.observe(path)
    if not isinstance(seen, Value):
        return seen
    match = re.search(r'"policyName":"(\w+)"', str(seen.value))
    if match is None:
        return Unreadable(f"/{path}: no policyName")
    return Value({"config": wanted.value, "state": match.group(1)})


def _eviction_mib(facts: Facts) -> Observation:
    """Free memory below which the kubelet ends pods; 0 where it watches other things alone."""
    seen = kubelet_field("evictionHard", {})(facts)
    if not isinstance(seen, Value) or not isinstance(seen.value, dict):
        return seen
    merge = kubelet_field("mergeDefaultEvictionSettings", False)(facts)
    if not isinstance(merge, Value) and "memory.available" not in seen.value:
        return merge
    is_merged = merge == Value(True)
    text = seen.value.get("memory.available", EVICTION_DEFAULTS["memory.available"] if is_merged else "0Mi")
    match = re.match(r"(\d+)(Mi|Gi)\Z", str(text))
    if match is None:
        return Unreadable(f"/{KUBELET_CONFIG}: memory.available {text!r} is not in Mi or Gi")
    return Value(int(match.group(1)) * (1024 if match.group(2) == "Gi" else 1))


def _gpu_ways(facts: Facts) -> Observation:
    # A host without a runtime needs none of it.
    from tuneagent.facts.container_runtime import gpu_ways

    return gpu_ways(facts)


def _systemd_cgroup(facts: Facts) -> Observation:
    from tuneagent.facts.container_runtime import systemd_cgroup

    return systemd_cgroup(facts)


def _unit_limit(name: str) -> Callable[[Facts], Observation]:
    """A limit of the first container runtime that systemd knows."""

    def read(facts: Facts) -> Observation:
        for unit in ("containerd", "crio", "docker"):
            try:
                state = facts.host.unit(f"{unit}.service", "LoadState", name)
            except NoSystemd as error:
                return Absent(str(error))
            except CommandFailed as error:
                return Unreadable(str(error))
            if state.get("LoadState") == "loaded" and name in state:
                return Value(state[name])
            if "LoadState" not in state:
                return Unreadable(f"systemctl answered {state}")
        return Absent("no container runtime")

    return read


def _enough_files(seen: str, wanted: int) -> bool:
    # Unlimited makes daemons that clear a table of all descriptors run out of memory.
    return seen.isdigit() and int(seen) >= wanted


def _row(  # noqa: PLR0913 - the columns of the table below
    name: str,
    default: Setting,
    kind: object,
    severity: Severity,
    why: str,
    source: str,
    *,
    right: Compare | None = None,
    expect: Setting = True,
    applies: tuple[Condition, ...] = (),
    static: bool = False,
    advice: str = "change the kubelet's configuration: drain the node, then restart the kubelet",
) -> CheckRow:
    """A row for one kubelet field; with `static`, one that only matters with the static CPU manager."""
    read = _static_only(name, default) if static else kubelet_field(name, default)
    right = right or (among if kind == tuple[str, ...] else equal)
    return CheckRow(
        group="kubelet", read=read, right=right, kind=kind, applies=(has_kubelet, *applies),
        evidence=f"/{KUBELET_CONFIG}", about=about(severity, why, source, advice), expect=expect,
    )  # fmt: skip


ROWS: dict[str, CheckRow] = {
    "cpuManagerPolicy": _row(
        "cpuManagerPolicy", "none", str | None, Severity.MEDIUM, "without the static policy no pod gets cores of its own", _CPU,
        advice="the kubelet does not start if its state file has another policy: drain, and remove that file",
    ),
    "topologyManagerPolicy": _row(
        "topologyManagerPolicy", "none", tuple[str, ...], Severity.MEDIUM,
        "with policy none a pod's GPU, NIC and CPUs may lie on different NUMA nodes", _TOPOLOGY,
    ),
    "topologyManagerScope": _row(
        "topologyManagerScope", "container", str | None, Severity.LOW,
        "with alignment per container, a sidecar may be on a different node than its worker", _TOPOLOGY,
    ),
    "memoryManagerPolicy": _row(
        "memoryManagerPolicy", "None", str | None, Severity.MEDIUM,
        "without the Static policy memory and huge pages of a pod come from any node", _MEMORY, applies=(several_nodes,),
    ),
    "reservedSystemCPUs": _row(
        "reservedSystemCPUs", "", bool, Severity.HIGH,
        "the static policy without reserved CPUs leaves no CPU for the system's own daemons", _CPU, static=True,
        right=lambda seen, wanted: bool(seen),
    ),
    "fullPhysicalCPUs": _row(
        "cpuManagerPolicyOptions.full-pcpus-only", "false", bool, Severity.MEDIUM,
        "pods share a physical core through its SMT siblings", _CPU, static=True, expect="true",
    ),
    "strictReservation": _row(
        "cpuManagerPolicyOptions.strict-cpu-reservation", "false", bool, Severity.MEDIUM,
        "burstable pods run on the CPUs reserved for the system", _CPU, static=True, expect="true",
    ),
    "uncoreCacheAlignment": _row(
        "cpuManagerPolicyOptions.prefer-align-cpus-by-uncorecache", "false", bool, Severity.LOW,
        "exclusive CPUs are spread over several L3 caches", _CPU, static=True, expect="true",
    ),
    "closestNumaNodes": _row(
        "topologyManagerPolicyOptions.prefer-closest-numa-nodes", "false", bool, Severity.LOW,
        "devices of a pod that needs several nodes come from distant ones", _TOPOLOGY, applies=(several_nodes,),
        expect="true",
    ),
    "kubeletSwap": _row(
        "memorySwap.swapBehavior", "NoSwap", bool, Severity.MEDIUM, "pods of this node may be swapped",
        "https://kubernetes.io/docs/concepts/cluster-administration/swap-memory-management/", expect="NoSwap",
    ),
    "cgroupDriver": _row(
        "cgroupDriver", "cgroupfs", bool, Severity.HIGH, "two managers of one cgroup tree work against each other",
        "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/configure-cgroup-driver/", expect="systemd",
    ),
    "kubeletEvictionMinMib": CheckRow(
        group="kubelet", read=_eviction_mib, right=at_least, kind=int | None, applies=(has_kubelet,),
        evidence=f"/{KUBELET_CONFIG}",
        about=about(Severity.MEDIUM,
                    "100 MiB of a terabyte is too small a margin: the kernel kills before the kubelet evicts",
                    "https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/"),
    ),
    "kubeletState": CheckRow(
        group="kubelet", read=_state_policy, right=lambda seen, wanted: seen["config"] == seen["state"],
        applies=(has_kubelet,), evidence="/var/lib/kubelet/cpu_manager_state",
        about=about(Severity.CRITICAL, "at its next start the kubelet refuses a state file of another policy", _CPU,
                    "drain, stop the kubelet, remove the state file, start it"),
    ),
    "runtimeMemlock": CheckRow(
        group="container runtime", read=_unit_limit("LimitMEMLOCK"), right=equal, expect="infinity",
        evidence="systemctl show containerd.service",
        about=about(Severity.CRITICAL, "containers inherit this limit: RDMA registration fails and NCCL uses sockets",
                    "https://github.com/NVIDIA/nvidia-container-toolkit/issues/2037",
                    "LimitMEMLOCK=infinity in a drop-in of the runtime's unit; see deviceLinks before a reload"),
    ),
    "runtimeFilesMin": CheckRow(
        group="container runtime", read=_unit_limit("LimitNOFILE"), right=_enough_files, kind=int | None,
        evidence="systemctl show containerd.service",
        about=about(Severity.MEDIUM, "loaders with many shards run out of files; infinity makes some daemons run out of memory",
                    "https://github.com/containerd/containerd/pull/7566", "LimitNOFILE=1048576"),
    ),
    "runtimeGpu": CheckRow(
        group="container runtime", read=_gpu_ways, right=lambda seen, wanted: bool(seen),
        evidence=f"/{_CONTAINERD}",
        about=about(Severity.CRITICAL, "the runtime has no way to give a container a GPU", _TOOLKIT,
                    "run `nvidia-ctk runtime configure`, or set enable_cdi"),
    ),
    "runtimeSystemdCgroup": CheckRow(
        group="container runtime", read=_systemd_cgroup, right=equal, applies=(has_kubelet,),
        evidence=f"/{_CONTAINERD}",
        about=about(Severity.HIGH, "runtime and kubelet must use the same cgroup driver",
                    "https://kubernetes.io/docs/setup/production-environment/container-runtimes/"),
    ),
}  # fmt: skip
