"""`tuneagent run` and the scripts for Slurm on a node whose Slurm keeps its steps in cgroup v2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_node
from guest import Vm

PROJECT = Path(__file__).parents[2]
AFFINITY = "python3 -S -E -c 'import os; print(sorted(os.sched_getaffinity(0)))'"


@pytest.fixture(scope="module")
def node(vm: Vm) -> Iterator[Vm]:
    """The machine with its Slurm idle."""
    for name in ("prolog.sh", "epilog.sh", "healthcheck.sh"):
        vm.put(f"/usr/local/sbin/{name}", (PROJECT / "examples/slurm" / name).read_text(), 0o755)
    vm.put("/etc/tuneagent/profile.yaml", PROFILE)
    slurm_node.install(vm)
    slurm_node.up(vm)
    yield vm
    vm.sh(slurm_node.STOP)


PAGES = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
PROFILE = """apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {name: jobs}
spec:
  tune:
    hugepages: {pages: [{size: 2Mi, node: 0, count: 4}]}
"""


def cpus_of(output: str) -> list[list[int]]:
    """The CPUs of each task, as AFFINITY says them."""
    return sorted([int(one) for one in found.split(",")] for found in re.findall(r"\[([\d, ]+)\]", output))


def test_steps_are_kept_in_cgroup_v2(node: Vm) -> None:
    found = node.sh(
        "srun -n1 -c2 sh -c 'cat /proc/self/cgroup; cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/../cpuset.cpus.effective'"
    )
    assert found.startswith("0::/system.slice/") and "/job_" in found, found


@pytest.mark.parametrize("binding", ["--cpu-bind=cores", "--cpu-bind=threads"])
def test_ranks_that_slurm_has_bound_are_left_alone_and_told(node: Vm, binding: str) -> None:
    bound = cpus_of(node.sh(f"srun -n2 -c2 --gres=gpu:2 {binding} {AFFINITY}"))
    done = node.run("/bin/sh", "-c", f"srun -n2 -c2 --gres=gpu:2 {binding} tuneagent run -- {AFFINITY}")
    assert done.code == 0, done.err
    assert cpus_of(done.out) == bound and len(bound) == 2 and not set(bound[0]) & set(bound[1])
    assert done.err.count("the launcher has bound this rank to CPUs") == 2, done.err


def test_ranks_that_share_a_step_divide_its_cores(node: Vm) -> None:
    step = cpus_of(node.sh(f"srun -n2 -c2 --cpu-bind=none {AFFINITY}"))
    done = node.run("/bin/sh", "-c", f"srun -n2 -c2 --cpu-bind=none tuneagent run -- {AFFINITY}")
    assert done.code == 0, done.err
    shares = cpus_of(done.out)
    assert step[0] == step[1] and len(step[0]) == 4, step
    assert len(shares) == 2 and not set(shares[0]) & set(shares[1]) and set().union(*shares) == set(step[0])


def test_a_batch_script_has_its_job_s_cores(node: Vm) -> None:
    node.put("/root/batch.sh", f"#!/bin/sh\ntuneagent run -- {AFFINITY}\nsrun -n1 tuneagent run -- {AFFINITY}\n", 0o755)
    node.sh("sbatch -W -n2 --gres=gpu:1 -o /root/batch.txt /root/batch.sh")
    batch, step = cpus_of(node.sh("cat /root/batch.txt"))
    assert len(batch) >= 2 and set(step) <= set(batch)


def test_the_scripts_for_slurm_keep_jobs_off_a_node_that_is_wrong(node: Vm) -> None:
    node.sh(slurm_node.STOP)
    slurm_node.up(node, "Prolog=/usr/local/sbin/prolog.sh\nEpilog=/usr/local/sbin/epilog.sh\nPrologFlags=Alloc\n")
    # The job waits until it is given up.
    assert node.run("/bin/sh", "-c", "timeout 60 srun -n1 true", timeout_s=200).code != 0
    assert re.match(r"drain\w* Prolog error", slurm_node.wait_for(node, "drain"))
    assert "hugepages" in node.sh("cat /run/tuneagent-prolog.txt")
    node.sh(
        "scancel -u root; for i in $(seq 30); do tuneagent apply -f /etc/tuneagent/profile.yaml --yes && break; sleep 1; done"
    )
    node.sh(f"scontrol update NodeName={slurm_node.HOST} State=RESUME")
    slurm_node.wait_for(node, "idle")
    # A job changes a live setting: after it the epilog has put it back.
    assert node.sh(f"srun -n1 sh -c 'echo 1 > {PAGES}; cat {PAGES}'") == "1"
    slurm_node.wait_for(node, "idle")
    assert node.sh(f"cat {PAGES}") == "4"
    node.tuneagent("undo")
