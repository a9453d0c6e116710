"""`tuneagent run`: which GPU a job is meant to use, and which CPUs are next to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import machines
import msgspec
import pytest
from support import tree, write_tree
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.host.files import Files
from tuneagent.jobs.launch import Rank, bind, choose_gpu, has_own_cpus, keep, rank_of
from tuneagent.topology.picture import NumaNode
from tuneagent.topology.read import read_topology


def test_a_job_on_a_mig_device_starts_all_the_same() -> None:
    gpus = GpuSnapshot(driver_version="1", devices=(GpuDevice(uuid="GPU-1", index=0),))
    assert choose_gpu(gpus, "auto", {"CUDA_VISIBLE_DEVICES": "MIG-0123-4567"}) is None


def test_ranks_of_slurm_without_ntasks_per_node() -> None:
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2", "SLURM_TASKS_PER_NODE": "4"}) == Rank(2, 4)
    assert rank_of({"SLURM_LOCALID": "2"}).number == 2


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({"SLURM_LOCALID": "0", "SLURM_NODEID": "3", "SLURM_STEP_TASKS_PER_NODE": "8(x3),2"}, Rank(0, 2)),
        ({"SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "1,2(x3)"}, Rank(1, 2)),
        ({"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "1,2(x3)"}, Rank(0, 1)),
        # A batch script is one process, whatever its steps will be.
        ({"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_TASKS_PER_NODE": "8"}, Rank(0, 1)),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "SLURM_TASKS_PER_NODE": "8"}, Rank(0, 8)),
        ({"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "what"}, Rank(1, 2)),
        ({"FLUX_TASK_LOCAL_ID": "1", "FLUX_JOB_SIZE": "2"}, Rank(1, 2)),
        ({"FLUX_TASK_LOCAL_ID": "1", "FLUX_JOB_SIZE": "16", "FLUX_JOB_NNODES": "4"}, Rank(1, 4)),
        ({"MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_LOCAL_SIZE": "2"}, Rank(1, 2)),
        ({"JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_LOCAL_SIZE": "2"}, Rank(1, 2)),
        ({}, Rank(0, 1)),
    ],
)
def test_ranks(environment: dict[str, str], rank: Rank) -> None:
    assert rank_of(environment) == rank


TWO_MODELS = GpuSnapshot(
    driver_version="1",
    devices=(
        GpuDevice(uuid="GPU-000", index=0, name="NVIDIA T400"),
        GpuDevice(uuid="GPU-111", index=1, name="NVIDIA H100"),
    ),
)


@pytest.mark.parametrize(
    ("environment", "index"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
        # CUDA's own order is by speed, which is not known here.
        ({"CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, 1),
    ],
)
def test_which_gpu_a_job_sees(environment: dict[str, str], index: int | None) -> None:
    found = choose_gpu(TWO_MODELS, "auto", environment)
    assert (found.index if found is not None else None) == index


def test_memory_of_cpus_without_any_is_that_of_the_nearest_node(tmp_path: Path) -> None:
    def node(number: int, memory: int | None, distances: tuple[int, ...]) -> NumaNode:
        return NumaNode(number, f"{number}", memory, distances, {})

    nodes = (node(0, 0, (10, 30, 20)), node(1, 1 << 20, (30, 10, 40)), node(2, 1 << 20, (20, 40, 10)))
    topology = msgspec.structs.replace(read_topology(tree(Files(str(tmp_path)))), numa_nodes=nodes)
    assert bind(topology, None, frozenset({0}), "local").nodes == {2}
    assert bind(topology, None, frozenset({0, 1}), "local").nodes == {1, 2}


def test_the_node_of_a_gpu_is_the_kernels_not_index_by_count(tmp_path: Path) -> None:
    # GPU 1 is on node 0 here although half of the GPUs come before it.
    write_tree(tmp_path, machines.build({"nodes": 2, "gpus": [1, 0]}))
    topology = read_topology(tree(Files(str(tmp_path))))
    devices = tuple(GpuDevice(uuid=f"GPU-{i}", index=i, pci=machines.address("gpu", i)) for i in range(2))
    gpu = choose_gpu(GpuSnapshot(driver_version="1", devices=devices), "1", {})
    assert gpu is not None and gpu.pci is not None
    device = topology.pci(gpu.pci)
    assert device is not None and topology.local_cpus(device) == frozenset(range(4))


@pytest.mark.parametrize(
    ("own", "started_on", "count", "alone"),
    [
        ({0}, set(range(8)), 2, True), ({0, 1, 2, 3}, set(range(8)), 2, True),
        # A socket for several ranks, the cores of a step, what everybody has.
        ({0, 1, 2, 3}, set(range(8)), 4, False), ({0, 1, 2, 3}, set(range(8)), 3, False), (set(range(8)), set(range(8)), 2, False),
        # The launcher itself is elsewhere; it is not known.
        ({4, 5}, {0, 1}, 2, True), ({4}, {0}, 3, False), ({4}, None, 1, False),
    ],
)  # fmt: skip
def test_cpus_that_a_rank_has_for_itself(
    tmp_path: Path, own: set[int], started_on: set[int] | None, count: int, alone: bool
) -> None:
    write_tree(tmp_path, machines.build({"nodes": 2, "cores": 4}))
    picture = read_topology(tree(Files(str(tmp_path))))
    cpus = None if started_on is None else frozenset(started_on)
    assert has_own_cpus(picture, frozenset(own), cpus, Rank(0, count)) is alone


def test_what_a_launcher_has_bound_keeps_its_cpus_and_gets_their_memory(tmp_path: Path) -> None:
    write_tree(tmp_path, machines.build({"nodes": 2, "cores": 4}))
    picture = read_topology(tree(Files(str(tmp_path))))
    binding = keep(picture, None, frozenset({5}))
    assert (binding.cpus, binding.nodes, binding.gpu) == (frozenset({5}), frozenset({1}), None)


@pytest.mark.parametrize(("variable", "is_started_by_this"), [("TUNEAGENT_TEST_RANK", True), ("NO_SUCH_RANK", False)])
def test_cpus_of_the_process_that_started_a_rank(variable: str, is_started_by_this: bool) -> None:
    """The shell between has the variable too; this process, which has more CPUs than it left them, has not."""
    own = sorted(os.sched_getaffinity(0))
    say = f"from tuneagent.host.processes import starter_cpus; print(sorted(starter_cpus([{variable!r}]) or ()))"
    done = subprocess.run(
        ["taskset", "-c", str(own[0]), "sh", "-c", f'"{sys.executable}" -c "$0"; exit', say],
        capture_output=True, text=True, check=True, env={**os.environ, "TUNEAGENT_TEST_RANK": "0"},
    )  # fmt: skip
    assert json.loads(done.stdout) == (own if is_started_by_this else own[:1])


@pytest.mark.skipif(os.geteuid() != 0 or len(os.sched_getaffinity(0)) < 2, reason="needs root and two CPUs")
def test_a_bound_rank_that_cannot_see_who_started_it_keeps_its_cpus() -> None:
    """A PID namespace of its own, as containers of jobs have it: sharing one core among two ranks would fail."""
    own = sorted(os.sched_getaffinity(0))
    inner = f"{sys.executable} -m tuneagent run -- {sys.executable} -c 'import os; print(os.sched_getaffinity(0))'"
    done = subprocess.run(
        ["taskset", "-c", str(own[-1]), "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", inner],
        capture_output=True, text=True, check=False, env={**os.environ, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{{{own[-1]}}}"
