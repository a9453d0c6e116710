"""Rows of the environment that GPU processes run with, and of /etc/nccl.conf. Nothing is ever changed there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tuneagent.checks.rows import CheckRow, about, equal
from tuneagent.contracts.values import Absent, Dispute, Observation, Severity, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuSnapshot

NCCL_CONF = "etc/nccl.conf"
_NCCL = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"
_CUDA = "https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables"
# Settings of the debug section of NCCL's manual, and values that disable a fast path.
_DEBUG = ("NCCL_P2P_DISABLE", "NCCL_P2P_LEVEL", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE", "NCCL_ALGO", "NCCL_PROTO",
          "NCCL_NET_GDR_LEVEL", "NCCL_NET_GDR_READ", "NCCL_CHECK_POINTERS", "NCCL_LAUNCH_MODE", "NCCL_DEBUG_SUBSYS")  # fmt: skip
# What NCCL does without them (its manual, environment variables): to say so changes nothing.
_DEFAULTS = {"NCCL_P2P_DISABLE": "0", "NCCL_IB_DISABLE": "0", "NCCL_SHM_DISABLE": "0", "NCCL_CHECK_POINTERS": "0"}
_VALUED = ("NCCL_DEBUG", "NCCL_IB_PCI_RELAXED_ORDERING", "NCCL_DMABUF_ENABLE", "NCCL_IGNORE_CPU_AFFINITY", "CUDA_LAUNCH_BLOCKING",
           "CUDA_DEVICE_ORDER", "CUDA_MODULE_LOADING", "PYTORCH_NO_CUDA_MEMORY_CACHING", "OMP_NUM_THREADS")  # fmt: skip
# Every variable that a row reads.
NAMES = (*_DEBUG, *_VALUED)
NO_PROCESS = "no process uses a GPU now, and there is no /etc/nccl.conf"


def gpu_pids(facts: Facts) -> list[int]:
    """Processes that NVML lists, MIG instances included."""
    return sorted(facts.gpus.users()) if isinstance(facts.gpus, GpuSnapshot) else []


def _conf(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*([A-Z][A-Z0-9_]*)\s*=\s*(.*?)\s*$", text, re.MULTILINE))


def environments(facts: Facts) -> Mapping[str, Mapping[str, str]] | Observation:
    """Variables by place: a process that uses a GPU, or /etc/nccl.conf."""

    def read() -> Mapping[str, Mapping[str, str]] | Observation:
        found: dict[str, Mapping[str, str]] = {}
        try:
            text = facts.host.files.read(NCCL_CONF)
            if text and not _conf(text) and not text.lstrip().startswith("#"):
                return Unreadable(f"/{NCCL_CONF}: no NAME=value in it")
            found[f"/{NCCL_CONF}"] = _conf(text)
        except PathMissing:
            pass
        except ReadFailed as error:
            return Unreadable(str(error))
        if NCCL_CONF in facts.host.unreadable:
            return Unreadable(facts.host.unreadable[NCCL_CONF])
        if isinstance(facts.gpus, Unreadable) and not found:
            return facts.gpus
        pids = gpu_pids(facts)
        for pid in pids:
            try:
                found[f"pid {pid}"] = facts.host.processes.environment(pid)
            except ReadFailed:
                # It has ended, or cannot be seen from here.
                continue
        if pids and not found:
            return Unreadable(f"{len(pids)} processes use a GPU, but none can be inspected from here")
        return found or Absent(NO_PROCESS)

    return facts.once("environments", read)


def _wrong(judge: Callable[[Mapping[str, str]], list[str]]) -> Callable[[Facts], Observation]:
    """What a judge finds wrong in each place, as `place: VARIABLE=value`."""

    def read(facts: Facts) -> Observation:
        places = environments(facts)
        if not isinstance(places, Mapping):
            return places
        return Value([f"{place}: {fault}" for place, variables in places.items() for fault in judge(variables)])

    return read


def _named(names: tuple[str, ...]) -> Callable[[Mapping[str, str]], list[str]]:
    """Those that are set to anything but their default."""
    return lambda variables: [
        f"{name}={variables[name]}" for name in names if variables.get(name, "") not in ("", _DEFAULTS.get(name, ""))
    ]


def _valued(name: str, *bad: str) -> Callable[[Mapping[str, str]], list[str]]:
    return lambda variables: [f"{name}={variables[name]}"] if variables.get(name, "").lower() in bad else []


def _threads(facts: Facts) -> Observation:
    """Processes whose OpenMP threads outnumber the CPUs that they may run on."""
    places = environments(facts)
    if not isinstance(places, Mapping):
        return places
    faults = []
    for pid in gpu_pids(facts):
        variables = places.get(f"pid {pid}")
        if variables is None:
            continue
        try:
            allowed = len(frozenset().union(*facts.host.processes.affinity(pid)))
        except ReadFailed:
            continue
        threads = variables.get("OMP_NUM_THREADS", "")
        if threads.isdigit() and int(threads) > allowed:
            faults.append(f"pid {pid}: OMP_NUM_THREADS={threads} on {allowed} CPUs")
    return Value(faults)


def _row(
    read: Callable[[Facts], Observation],
    severity: Severity,
    why: str,
    source: str,
    advice: str = "",
    dispute: Dispute | None = None,
) -> CheckRow:
    return CheckRow(
        group="cuda/nccl environment", read=read, right=equal, expect=[], evidence=f"/{NCCL_CONF}, /proc/*/environ",
        about=about(severity, why, source, advice or "only the job owner can change it; tuneagent never does", dispute),
    )  # fmt: skip


ROWS: dict[str, CheckRow] = {
    "noNcclDebugSettings": _row(
        _wrong(_named(_DEBUG)), Severity.HIGH,
        "left over from debugging, these disable a fast path or fix a choice that NCCL makes better", _NCCL,
        dispute=Dispute("some guides set NCCL_ALGO and NCCL_NET_GDR_LEVEL", "NCCL's manual: not in production", "reported"),
    ),
    "noNcclDebugOutput": _row(
        _wrong(_valued("NCCL_DEBUG", "trace", "info")), Severity.LOW, "every rank writes a log line for every call", _NCCL,
    ),
    "ncclRelaxedOrdering": _row(
        _wrong(_valued("NCCL_IB_PCI_RELAXED_ORDERING", "0")), Severity.MEDIUM,
        "forced off, RDMA writes wait for each other", _NCCL,
    ),
    "ncclDmabuf": _row(
        _wrong(_valued("NCCL_DMABUF_ENABLE", "0")), Severity.MEDIUM, "forced off, only a legacy module can reach GPU memory", _NCCL,
    ),
    "ncclHonoursAffinity": _row(
        _wrong(_valued("NCCL_IGNORE_CPU_AFFINITY", "1")), Severity.MEDIUM,
        "NCCL's threads leave the CPUs that the launcher chose; right only where those are wrong", _NCCL,
    ),
    "noLaunchBlocking": _row(
        _wrong(_valued("CUDA_LAUNCH_BLOCKING", "1")), Severity.HIGH, "every kernel launch waits for the kernel to end", _CUDA,
    ),
    "cudaDeviceOrder": _row(
        _wrong(_valued("CUDA_DEVICE_ORDER", "fastest_first")), Severity.MEDIUM,
        "device numbers of CUDA and of NVML then differ", _CUDA, "CUDA_DEVICE_ORDER=PCI_BUS_ID",
    ),
    "cudaLazyLoading": _row(
        _wrong(_valued("CUDA_MODULE_LOADING", "eager")), Severity.LOW, "loading every kernel at start costs time and memory", _CUDA,
    ),
    "noAllocatorCacheOff": _row(
        _wrong(_valued("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")), Severity.HIGH,
        "every tensor then asks the driver for memory", "https://docs.pytorch.org/docs/stable/notes/cuda.html",
    ),
    "threadsFitCpus": _row(
        _threads, Severity.HIGH, "more threads than CPUs take turns with the one that feeds the GPU",
        "https://www.openmp.org/spec-html/5.0/openmpse50.html",
    ),
}  # fmt: skip
