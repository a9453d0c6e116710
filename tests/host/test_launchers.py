"""`tuneagent run` under real launchers, and the scripts for Slurm in a real Slurm."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_site import GPUS, Site, packages
from tuneagent.jobs.launch import VARIABLES, Rank, rank_of

PROJECT = Path(__file__).parents[2]
CPUS = os.cpu_count() or 1
PAGES = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
# One line of JSON for each task: what its launcher has set. srun mixes lines of more than 2 KiB.
NAMES = f"{json.dumps([*VARIABLES, 'SLURM_PROCID', 'SLURM_JOB_GPUS'])}"
SAY = f"{sys.executable} -c 'import json, os; print(json.dumps({{n: os.environ[n] for n in {NAMES} if n in os.environ}}))'"
AFFINITY = f"{sys.executable} -c 'import os; print(sorted(os.sched_getaffinity(0)))'"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory.mktemp("slurm"))


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), package)
    try:
        made.up()
        yield made
    finally:
        made.down()


def told(site: Site, command: str) -> list[dict[str, str]]:
    """The environment of each task. Launchers may mix the ends of lines."""
    return [json.loads(found) for found in re.findall(r"\{[^{}]*\}", site.sh(command).stdout)]


def cpus_of(output: str) -> list[str]:
    """The CPUs of each task, as AFFINITY says them."""
    return sorted(re.findall(r"\[[\d, ]*\]", output))


def ranks(tasks: list[dict[str, str]]) -> list[Rank]:
    return sorted((rank_of(task) for task in tasks), key=lambda one: one.number)


@pytest.mark.parametrize("options", ["", f"--gres=gpu:{GPUS}", "--gpus-per-task=1", "-O -n3", "--distribution=cyclic"])
def test_ranks_of_slurms_steps(site: Site, options: str) -> None:
    count = 3 if "-n3" in options else 1 if CPUS < 2 else 2
    tasks = told(site, f"srun -n{count} {options} {SAY}")
    assert ranks(tasks) == [Rank(number, count) for number in range(count)]
    assert sorted(task["SLURM_PROCID"] for task in tasks) == [str(number) for number in range(count)]


def test_a_batch_script_is_no_rank_and_its_steps_are(site: Site) -> None:
    out = site.folder / "batch.txt"
    script = site.folder / "batch.sh"
    script.write_text(f"#!/bin/sh\n{SAY}\nsrun -n1 {SAY}\n")
    site.sh(f"sbatch -W -n{min(CPUS, 2)} --gres=gpu:1 -o {out} {script}")
    batch, step = [json.loads(line) for line in out.read_text().splitlines() if line.startswith("{")]
    assert "SLURM_JOB_GPUS" in batch and rank_of(batch) == Rank()
    assert rank_of(step) == Rank(0, 1)


def test_ranks_of_open_mpi(site: Site) -> None:
    tasks = told(site, f"mpirun --allow-run-as-root --oversubscribe -n 3 {SAY}")
    assert ranks(tasks) == [Rank(number, 3) for number in range(3)]
    # And inside a step of Slurm, whose variables are about mpirun itself.
    tasks = told(site, f"srun -n1 mpirun --allow-run-as-root --oversubscribe --mca plm isolated -n 2 {SAY}")
    assert ranks(tasks) == [Rank(0, 2), Rank(1, 2)]


def test_every_variable_that_slurm_and_open_mpi_set_for_this_is_known(site: Site) -> None:
    one = told(site, f"srun -n1 --gres=gpu:1 {SAY}")[0] | told(site, f"mpirun --allow-run-as-root -n 1 {SAY}")[0]
    expected = [name for name in VARIABLES if name.startswith(("SLURM_", "OMPI_"))]
    missing = set(expected) - set(one)
    # An option of srun sets it, and an allocation of several tasks for each node.
    assert missing <= {"SLURM_NTASKS_PER_NODE"}, missing


@pytest.mark.skipif(CPUS < 2, reason="one CPU cannot be shared out")
def test_tasks_get_cpus_of_their_own(site: Site) -> None:
    lines = cpus_of(site.sh(f"srun -n2 tuneagent run -- {AFFINITY}").stdout)
    found = [set(json.loads(line)) for line in lines]
    assert len(found) == 2 and found[0] and found[1] and not found[0] & found[1]


@pytest.mark.skipif(CPUS < 2, reason="nothing can be bound to one of one CPU")
@pytest.mark.parametrize("between", ["", "sh -c '\"$@\"; exit' - "])
def test_what_a_launcher_has_bound_is_left_alone(site: Site, between: str) -> None:
    mpirun = "mpirun --allow-run-as-root -n 2"
    for bound in ("", "--bind-to core"):
        ours = site.sh(f"{mpirun} {bound} {between} tuneagent run -- {AFFINITY}")
        theirs = site.sh(f"{mpirun} {bound} {AFFINITY}")
        assert cpus_of(ours.stdout) == cpus_of(theirs.stdout) == [f"[{cpu}]" for cpu in range(2)]
        assert ours.stderr.count("tuneagent: the launcher has bound this rank to CPUs") == 2
    free = site.sh(f"{mpirun} --bind-to none {between} tuneagent run -- {AFFINITY}")
    assert "the launcher has bound" not in free.stderr
    assert cpus_of(free.stdout) == [f"[{cpu}]" for cpu in range(2)]


PROFILE = """apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {name: site}
spec:
  tune:
    hugepages: {pages: [{size: 2Mi, node: 0, count: 4}]}
    checks: {kubeletState: true}
"""


@pytest.fixture
def scripts(package: Path, tmp_path: Path) -> Iterator[Site]:
    """A site with our scripts; the huge pages of this machine are put back."""
    before = PAGES.read_text()
    made = Site(tmp_path / "site", package)
    examples = PROJECT / "examples/slurm"
    try:
        (made.etc / "tuneagent").mkdir()
        (made.etc / "tuneagent/profile.yaml").write_text(PROFILE)
        made.up(
            f"Prolog={examples}/prolog.sh\nEpilog={examples}/epilog.sh\nPrologFlags=Alloc\n"
            f"HealthCheckProgram={examples}/healthcheck.sh\nHealthCheckInterval=2\n"
        )
        yield made
    finally:
        made.down()
        PAGES.write_text(before)


def test_the_scripts_for_slurm_keep_jobs_off_a_node_that_is_wrong(scripts: Site) -> None:
    # Severity high is wrong now: the prolog drains the node, and the job waits.
    assert scripts.sh("timeout 15 srun -n1 true", check=False).returncode != 0
    assert re.match(r"drain\w* Prolog error", scripts.wait_for("drain"))
    assert "hugepages" in scripts.sh("cat /run/tuneagent-prolog.txt").stdout
    # The epilog of the job that did not start may still be at work.
    scripts.sh(
        "scancel --me; for i in $(seq 30); do tuneagent apply -f /etc/tuneagent/profile.yaml --yes && break; sleep 1; done"
    )
    assert PAGES.read_text().strip() == "4"
    scripts.sh(f"scontrol update nodename={scripts.host} state=resume")
    scripts.wait_for("idle")
    # A job changes a live setting: after it the epilog has put it back.
    scripts.sh(f"srun -n1 sh -c 'echo 1 > {PAGES}; cat {PAGES}'")
    scripts.wait_for("idle")
    assert PAGES.read_text().strip() == "4"
    # Something critical: the health check drains the node without any job, and says why.
    kubelet = scripts.folder / "upper/var/lib/kubelet"
    scripts.sh("mkdir -p /var/lib/kubelet; echo 'cpuManagerPolicy: static' > /var/lib/kubelet/config.yaml")
    scripts.sh("""echo '{"policyName":"none"}' > /var/lib/kubelet/cpu_manager_state""")
    assert (kubelet / "config.yaml").exists(), "this machine's own folder was written to"
    assert "tuneagent: checks" in scripts.wait_for("drain")
