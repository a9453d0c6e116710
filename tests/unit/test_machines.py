"""Machines that nobody here has: their picture, their CPU plan, their ranks, their verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import machines
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support import FIXTURES, session_of, tree, write_tree
from tuneagent.errors import UsageError
from tuneagent.formats.cpulist import format_cpulist, parse_cpulist
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.jobs.launch import Rank, bind, choose_gpu, rank_of, share_of
from tuneagent.profile_files.resolve import builtin as builtin_profile
from tuneagent.profile_files.resolve import builtin_names
from tuneagent.topology import cpu_plan
from tuneagent.topology.picture import NumaNode, Topology
from tuneagent.topology.read import read_topology
from tuneagent.tunables.registry import registry, resolved

PATHS = sorted((FIXTURES / "machines").glob("*.yaml"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return found


@pytest.fixture
def host(case: dict[str, Any], tmp_path: Path) -> Host:
    files = machines.build(case["machine"])
    gpus = case["machine"].get("gpus", [])
    if gpus:
        devices = [
            {"uuid": f"GPU-{index:04d}", "index": index, "pci": machines.address("gpu", index), "pids": []}
            for index in range(len(gpus))
        ]
        answer = {"snapshot": {"driver_version": "580.1", "devices": devices}}
    else:
        answer = {"absent": "no NVIDIA driver"}
    files["tuneagent/gpus.json"] = msgspec.json.encode(answer).decode()
    write_tree(tmp_path, files)
    return tree(Files(str(tmp_path)))


def test_topology(case: dict[str, Any], host: Host) -> None:
    found = msgspec.json.decode(msgspec.json.encode(read_topology(host)))
    assert {name: found[name] for name in case["topology"]} == case["topology"]
    assert [gpu["numa_node"] for gpu in found["pci_gpus"]] == case["machine"].get("gpus", [])


def test_cpu_plan(case: dict[str, Any], host: Host) -> None:
    topology = read_topology(host)
    for wanted in case["cpu_plan"]:
        spec = msgspec.convert(wanted["spec"], cpu_plan.Spec)
        plan = cpu_plan.make(topology, spec, smt=wanted.get("smt"))
        assert format_cpulist(plan.reserved) == wanted.get("reserved", "")
        assert len(plan.faults) == len(wanted.get("faults", [])), plan.faults
        for fault, text in zip(plan.faults, wanted.get("faults", []), strict=True):
            assert text in fault
        assert wanted.get("waits", "") in (plan.waits or "")
        assert (plan.waits is None) == ("waits" not in wanted)


def test_a_plan_of_another_topology_waits(case: dict[str, Any], host: Host) -> None:
    topology = read_topology(host)
    mine = cpu_plan.make(topology, cpu_plan.Spec(per_numa_node=1)).fingerprint
    assert cpu_plan.make(topology, cpu_plan.Spec(per_numa_node=1, topology=mine)).waits is None
    other = cpu_plan.make(topology, cpu_plan.Spec(per_numa_node=1, topology="0123456789ab"))
    assert other.waits is not None and not other.faults


def test_ranks_get_disjoint_whole_cores_of_their_node(case: dict[str, Any], host: Host) -> None:
    from tuneagent.gpu.ask import read_gpus

    topology, gpus = read_topology(host), read_gpus(host)
    for wanted in case["ranks"]:
        environment = {"LOCAL_RANK": str(wanted["rank"]), "LOCAL_WORLD_SIZE": str(wanted["of"])}
        gpu = choose_gpu(gpus, "auto", environment)
        share = share_of(topology, gpus, gpu, rank_of(environment), environment)
        binding = bind(topology, gpu, topology.online, "local", share)
        assert format_cpulist(binding.cpus) == wanted["cpus"]
        assert sorted(binding.nodes) == wanted["nodes"]


@pytest.mark.parametrize("profile", builtin_names())
def test_audit_of_every_built_in_profile(case: dict[str, Any], host: Host, profile: str) -> None:
    found = builtin_profile(profile)
    assert found is not None
    session = session_of(host, resolved(found, registry()).spec.tune)
    verdicts = {f"{one.tunable} {one.subject}": one.verdict.value for one in session.observe().report.findings}
    if profile == "generic":
        assert {name: verdicts[name] for name in case["verdicts"]} == case["verdicts"]
    session.observe()


LAUNCHERS = [
    ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8"}, Rank(3, 8)),
    ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, Rank(1, 2)),
    ({"SLURM_LOCALID": "5", "SLURM_NTASKS_PER_NODE": "8(x2)"}, Rank(5, 8)),
    ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "4"}, Rank(0, 4)),
    # A launcher that tells the rank alone: at least so many ranks are there.
    ({"LOCAL_RANK": "3"}, Rank(3, 4)),
    ({}, Rank(0, 1)),
]


@pytest.mark.parametrize(("environment", "wanted"), LAUNCHERS)
def test_rank_as_launchers_say_it(environment: dict[str, str | None], wanted: Rank) -> None:
    assert rank_of(environment) == wanted


def test_nonsense_of_a_launcher_is_refused() -> None:
    with pytest.raises(UsageError, match="LOCAL_RANK"):
        rank_of({"LOCAL_RANK": "three"})


def test_one_visible_gpu_for_each_rank_keeps_ranks_apart() -> None:
    nodes = tuple(NumaNode(n, c, 1, None, {}) for n, c in ((0, "0-3"), (1, "4-7")))
    devices = tuple(machines_pci(index, node) for index, node in enumerate((0, 0, 1, 1)))
    topology = Topology(
        "x86_64", 8, "0-7", "0-7", 2, 8, 1, nodes, None, devices, (), (), cores_cpus=tuple(str(cpu) for cpu in range(8))
    )
    gpus = GpuSnapshot(
        driver_version="1",
        devices=tuple(GpuDevice(uuid=f"GPU-{i}", index=i, pci=device.address) for i, device in enumerate(devices)),
    )
    seen: list[frozenset[int]] = []
    for rank in range(4):
        environment = {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "4", "CUDA_VISIBLE_DEVICES": str(rank)}
        gpu = choose_gpu(gpus, "auto", environment)
        share = share_of(topology, gpus, gpu, rank_of(environment), environment)
        seen.append(bind(topology, gpu, topology.online, "local", share).cpus)
    assert frozenset().union(*seen) == topology.online
    assert sum(len(cpus) for cpus in seen) == 8


def machines_pci(index: int, node: int) -> Any:
    from tuneagent.topology.picture import PciDevice

    return PciDevice(f"0000:{index:02x}:00.0", "0302", "10de", "2330", node, "0-3" if node == 0 else "4-7")


@given(
    nodes=st.integers(1, 4), cores=st.integers(1, 6), smt=st.integers(1, 2), per_node=st.integers(1, 6),
    allowed=st.integers(1, 48), ranks=st.integers(1, 8),
)  # fmt: skip
def test_plans_and_shares_hold_for_any_shape(
    nodes: int, cores: int, smt: int, per_node: int, allowed: int, ranks: int
) -> None:
    total = nodes * cores
    core_lists = [format_cpulist({core + thread * total for thread in range(smt)}) for core in range(total)]
    numa = tuple(
        NumaNode(
            node,
            format_cpulist({c + t * total for c in range(node * cores, (node + 1) * cores) for t in range(smt)}),
            1, None, {},
        )
        for node in range(nodes)
    )  # fmt: skip
    online = f"0-{total * smt - 1}"
    topology = Topology(
        "x86_64", total * smt, online, online, nodes, total, smt, numa, None, (), (), (), cores_cpus=tuple(core_lists)
    )
    plan = cpu_plan.make(topology, cpu_plan.Spec(per_numa_node=per_node))
    if plan.faults:
        assert per_node >= cores
    else:
        assert 0 in plan.reserved and not plan.reserved & plan.isolated
        assert plan.reserved | plan.isolated == topology.online
        for core in core_lists:
            cpus = parse_cpulist(core)
            assert cpus <= plan.reserved or cpus <= plan.isolated
    mine = frozenset(range(min(allowed, total * smt)))
    whole = len(topology.whole_cores(mine)) or len(mine)
    if whole >= ranks:
        parts = [bind(topology, None, mine, "local", (place, ranks)).cpus for place in range(ranks)]
        assert all(part <= mine and part for part in parts)
        assert len(frozenset().union(*parts)) == sum(len(part) for part in parts)
