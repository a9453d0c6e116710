"""Traps that other tools fell into, each with what we say instead (catalogue of settings, tool traps seen in sources)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import machines
import pytest
from support import session_of, tree, write_tree
from tuneagent.errors import ProfileInvalid
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.host.files import Files
from tuneagent.jobs.launch import choose_gpu
from tuneagent.topology.read import read_topology
from tuneagent.tunables.checks import ROWS
from tuneagent.tunables.gpu_health import ROWS as GPU_ROWS


@pytest.mark.parametrize(
    "key", ["kernel.sched_min_granularity_ns", "kernel.sched_wakeup_granularity_ns", "kernel.sched_latency_ns"]
)
def test_scheduler_keys_that_are_gone_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="not a key that a profile may set"):
        session_of(tree(Files(str(tmp_path))), {"sysctl": {key: 1000000}}).observe()


def test_noop_is_no_scheduler(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match="noop"):
        session_of(tree(Files(str(tmp_path))), {"nvme": {"scheduler": "noop"}}).observe()


def test_an_idle_link_speed_is_never_judged() -> None:
    assert not [name for name in (*ROWS, *GPU_ROWS) if "LinkSpeed" in name or "Generation" in name]


def test_the_node_of_a_gpu_is_the_kernels_not_index_by_count(tmp_path: Path) -> None:
    # GPU 1 is on node 0 here although half of the GPUs come before it.
    write_tree(tmp_path, machines.build({"nodes": 2, "gpus": [1, 0]}))
    topology = read_topology(tree(Files(str(tmp_path))))
    devices = tuple(GpuDevice(uuid=f"GPU-{i}", index=i, pci=machines.address("gpu", i)) for i in range(2))
    gpu = choose_gpu(GpuSnapshot(driver_version="1", devices=devices), "1", {})
    assert gpu is not None and gpu.pci is not None
    device = topology.pci(gpu.pci)
    assert device is not None and topology.local_cpus(device) == frozenset(range(4))


def test_numa_node_minus_one_in_a_virtual_machine_is_no_fault(tmp_path: Path) -> None:
    files = machines.build({"nodes": 2, "gpus": [0]})
    files["proc/cpuinfo"] = "flags\t\t: fpu hypervisor lm\n"
    files[f"{machines.PCI}/0000:1b:00.0/numa_node"] = "-1\n"
    write_tree(tmp_path, files)
    findings = session_of(tree(Files(str(tmp_path))), {"checks": {"numaGpuNode": True}}).observe().report.findings
    assert findings[0].verdict.value == "unsupported"


def test_dma_buf_counts_where_peermem_is_missing(tmp_path: Path) -> None:
    files: dict[str, Any] = machines.build({"gpus": [0]})
    files["sys/class/infiniband/mlx5_0/node_type"] = "1: CA\n"
    files["proc/driver/nvidia/version"] = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.1\n"
    files["proc/sys/kernel/osrelease"] = "6.8.0\n"
    write_tree(tmp_path, files)
    findings = session_of(tree(Files(str(tmp_path))), {"checks": {"gpuDirectRdma": True}}).observe().report.findings
    assert findings[0].observed == ["DMA-BUF"] and findings[0].verdict.value == "converged"


def test_a_kernel_managed_interrupt_is_not_ours(tmp_path: Path) -> None:
    files = machines.build({"nvme": [0]})
    files[f"{machines.PCI}/0000:7b:00.0/msi_irqs/40"] = "msix\n"
    files["proc/irq/40/smp_affinity_list"] = "0-3\n"
    files["proc/interrupts"] = "           CPU0\n  40:          1  PCI-MSIX-0000:7b:00.0   1-edge      nvme0q1\n"
    write_tree(tmp_path, files)
    findings = session_of(tree(Files(str(tmp_path))), {"irqAffinity": {"nvme": "local"}}).observe().report.findings
    assert findings[0].verdict.value == "unsupported" and "kernel itself" in findings[0].advice
