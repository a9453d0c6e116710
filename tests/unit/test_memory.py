"""Memory as the machine has it: nodes without any, pools of every size, pages that are not of 4 KiB."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files

NODE = "sys/devices/system/node/node{}"
POOLS = "sys/kernel/mm/hugepages/hugepages-{}kB"


def finding(root: Path, **checks: object) -> Finding:
    (found,) = session_of(tree(Files(str(root))), {"checks": checks}).observe().report.findings
    return found


def nodes(root: Path, *memory: str) -> None:
    write_tree(root, {"sys/devices/system/cpu/online": f"0-{len(memory) - 1}\n"})
    for node, text in enumerate(memory):
        write_tree(root, {f"{NODE.format(node)}/cpulist": f"{node}\n", f"{NODE.format(node)}/meminfo": text})


def test_a_node_without_memory_differs_by_all_of_it(tmp_path: Path) -> None:
    nodes(tmp_path, "Node 0 MemTotal: 0 kB\n", "Node 1 MemTotal: 64 kB\n", "Node 2 MemTotal: 64 kB\n")
    found = finding(tmp_path, numaMemorySpreadMax=5.0)
    assert (found.verdict, found.observed) == (Verdict.DRIFTED, 100.0)


def test_a_node_without_memory_differs_by_all_of_it_however_much_the_others_have(tmp_path: Path) -> None:
    nodes(tmp_path, "Node 0 MemTotal: 0 kB\n", "Node 1 MemTotal: 64 kB\n", "Node 2 nonsense\n")
    write_tree(tmp_path, {"proc/meminfo": "MemTotal: 4096 kB\n"})
    found = finding(tmp_path, numaMemorySpreadMax=5.0)
    assert (found.verdict, found.observed) == (Verdict.DRIFTED, 100.0)


@pytest.mark.parametrize("text", ["", "Node 0 nonsense\n"])
def test_a_node_whose_memory_is_not_known_is_not_without(tmp_path: Path, text: str) -> None:
    nodes(tmp_path, text, "Node 1 MemTotal: 64 kB\n")
    assert finding(tmp_path, numaMemorySpreadMax=5.0).verdict is Verdict.UNKNOWN


def test_no_memory_at_all_is_not_known(tmp_path: Path) -> None:
    nodes(tmp_path, "Node 0 MemTotal: 0 kB\n", "Node 1 MemTotal: 0 kB\n")
    assert finding(tmp_path, numaMemorySpreadMax=5.0).verdict is Verdict.UNKNOWN


MEMORY = "MemTotal: 104857600 kB\nHugePages_Free: {}\nHugepagesize: 2048 kB\n"


@pytest.mark.parametrize(
    ("default", "pools", "share"),
    [
        (0, {}, 0.0),
        (5120, {}, 10.0),
        # Pages of the default size are counted once, those of other sizes as well.
        (5120, {2048: "5120"}, 10.0),
        (5120, {2048: "5120", 1048576: "20"}, 30.0),
        (0, {1048576: "50"}, 50.0),
    ],
)
def test_idle_pages_of_every_size_count(tmp_path: Path, default: int, pools: dict[int, str], share: float) -> None:
    write_tree(tmp_path, {"proc/meminfo": MEMORY.format(default)})
    write_tree(tmp_path, {f"{POOLS.format(size)}/free_hugepages": f"{count}\n" for size, count in pools.items()})
    assert finding(tmp_path, hugePagesIdleMax=5.0).observed == share


def test_a_pool_that_makes_no_sense_is_not_known(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMORY.format(0), f"{POOLS.format(1048576)}/free_hugepages": "many\n"}
    write_tree(tmp_path, {**files, "sys/kernel/mm/hugepages/other/free_hugepages": "7\n"})
    found = finding(tmp_path, hugePagesIdleMax=5.0)
    assert found.verdict is Verdict.UNKNOWN and "hugepages-1048576kB/free_hugepages" in found.advice


@pytest.mark.parametrize(
    ("covered", "default_kib", "size"),
    [
        ("536870912", 2048, 65536),
        ("33554432", 2048, 16384),
        ("2097152", 1048576, 4096),
        (None, 524288, 65536),
        ("12345", 2048, None),
        (None, 1048576, None),
    ],
)
def test_the_size_of_a_base_page(tmp_path: Path, covered: str | None, default_kib: int, size: int | None) -> None:
    """`default_hugepagesz=2M` on a kernel of 64 KiB pages does not make them smaller."""
    files = {
        "proc/meminfo": f"Hugepagesize: {default_kib} kB\n",
        "proc/cpuinfo": "CPU implementer : 0x41\n",
        "proc/sys/kernel/arch": "aarch64\n",
    }
    if covered is not None:
        files["sys/kernel/mm/transparent_hugepage/hpage_pmd_size"] = f"{covered}\n"
    write_tree(tmp_path, files)
    found = finding(tmp_path, pageSize=65536)
    assert found.observed == size
    assert (found.verdict is Verdict.UNKNOWN) is (size is None)


@pytest.mark.parametrize(
    ("sizes", "machine", "seen"),
    [
        # Memory that was added to a running virtual machine: its one node still tells what it was started with.
        ((6_516_208,), 577_563_364, (577_563_364,)),
        ((6_516_208, 6_516_208), 577_563_364, (None, None)),
        # A node that says that it has none has none, whatever the others say.
        ((0, 66_000_000, 66_000_000, 0), 260_000_000, (0, None, None, 0)),
        # What the kernel keeps for itself is no difference.
        ((66_000_000, 66_000_000), 131_000_000, (66_000_000, 66_000_000)),
        ((60_000_000, 60_000_000), 131_000_000, (60_000_000, 60_000_000)),
        ((66_000_000,), None, (66_000_000,)),
        ((None,), 131_000_000, (None,)),
    ],
)
def test_memory_of_nodes_beside_that_of_the_machine(
    tmp_path: Path, sizes: tuple[int | None, ...], machine: int | None, seen: tuple[int | None, ...]
) -> None:
    files = {"sys/devices/system/cpu/online": f"0-{len(sizes) - 1}\n"}
    if machine is not None:
        files["proc/meminfo"] = f"MemTotal:       {machine} kB\n"
    for number, kib in enumerate(sizes):
        folder = f"sys/devices/system/node/node{number}"
        files[f"{folder}/cpulist"] = f"{number}\n"
        files[f"{folder}/meminfo"] = "" if kib is None else f"Node {number} MemTotal:       {kib} kB\n"
    write_tree(tmp_path, files)
    found = Facts(tree(Files(str(tmp_path)))).topology.nodes
    assert tuple(node.memory_kib for node in found) == seen
