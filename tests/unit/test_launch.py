"""`tuneagent run`: which GPU a job is meant to use, and which CPUs are next to it."""

from __future__ import annotations

from pathlib import Path

import machines
from support import tree, write_tree
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.host.files import Files
from tuneagent.jobs.launch import Rank, choose_gpu, rank_of
from tuneagent.topology.read import read_topology


def test_a_job_on_a_mig_device_starts_all_the_same() -> None:
    gpus = GpuSnapshot(driver_version="1", devices=(GpuDevice(uuid="GPU-1", index=0),))
    assert choose_gpu(gpus, "auto", {"CUDA_VISIBLE_DEVICES": "MIG-0123-4567"}) is None


def test_ranks_of_slurm_without_ntasks_per_node() -> None:
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_TASKS_PER_NODE": "4"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2"}).number == 2


def test_the_node_of_a_gpu_is_the_kernels_not_index_by_count(tmp_path: Path) -> None:
    # GPU 1 is on node 0 here although half of the GPUs come before it.
    write_tree(tmp_path, machines.build({"nodes": 2, "gpus": [1, 0]}))
    topology = read_topology(tree(Files(str(tmp_path))))
    devices = tuple(GpuDevice(uuid=f"GPU-{i}", index=i, pci=machines.address("gpu", i)) for i in range(2))
    gpu = choose_gpu(GpuSnapshot(driver_version="1", devices=devices), "1", {})
    assert gpu is not None and gpu.pci is not None
    device = topology.pci(gpu.pci)
    assert device is not None and topology.local_cpus(device) == frozenset(range(4))
