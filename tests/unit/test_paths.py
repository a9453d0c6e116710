"""Ways between PCI devices and over NVLink, as `nvidia-smi topo -m` names them, from sysfs and NVML's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import FIXTURES, tree, write_tree
from tuneagent.facts.gpu_paths import with_paths
from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuDevice, GpuSnapshot, nvlinks_between
from tuneagent.host.files import Files
from tuneagent.report.picture import topology_text
from tuneagent.share.capture import unpack

PCI = "sys/bus/pci/devices"


def bridge(address: str, bus: int, *, by_file: bool = True) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {f"{PCI}/{address}/class": "0x060400\n"}
    if by_file:
        files[f"{PCI}/{address}/secondary_bus_number"] = f"{bus}\n"
    else:
        files[f"{PCI}/{address}/config"] = bytes(0x18) + bytes([0, bus, bus]) + bytes(37)
    return files


def device(address: str, kind: str, node: int) -> dict[str, str | bytes]:
    codes = {"gpu": ("0x030200", "0x10de"), "nic": ("0x020700", "0x15b3"), "nvme": ("0x010802", "0x144d")}
    code, vendor = codes[kind]
    folder = f"{PCI}/{address}"
    return {
        f"{folder}/class": f"{code}\n",
        f"{folder}/vendor": f"{vendor}\n",
        f"{folder}/device": "0x1\n",
        f"{folder}/numa_node": f"{node}\n",
    }


def switch(root: str, bus: int, below: list[int], *, by_file: bool = True) -> dict[str, str | bytes]:
    """A root port, a switch below it, and its ports with the buses below them."""
    files = bridge(root, bus, by_file=by_file) | bridge(f"0000:{bus:02x}:00.0", bus + 1, by_file=by_file)
    for number, one in enumerate(below):
        files |= bridge(f"0000:{bus + 1:02x}:{number:02x}.0", one, by_file=by_file)
    return files


def machine(root: Path, files: dict[str, str | bytes]) -> Facts:
    nodes = {"sys/devices/system/cpu/online": "0-1\n"}
    nodes |= {f"sys/devices/system/node/node{node}/cpulist": f"{node}\n" for node in (0, 1)}
    write_tree(root, nodes)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return Facts(tree(Files(str(root))))


def ways(facts: Facts) -> dict[tuple[str, str], str | None]:
    return {(one.one[5:7], one.other[5:7]): one.way for one in with_paths(facts).paths}


@pytest.mark.parametrize("by_file", [True, False], ids=["by its file", "by its registers"])
def test_ways_of_two_sockets_with_switches(tmp_path: Path, by_file: bool) -> None:
    files = switch("0000:10:01.0", 0x11, [0x14, 0x15], by_file=by_file) | switch(
        "0000:10:02.0", 0x21, [0x24], by_file=by_file
    )
    files |= switch("0000:80:01.0", 0x81, [0x84], by_file=by_file)
    # A switch below a switch.
    files |= bridge("0000:15:00.0", 0x16, by_file=by_file) | bridge("0000:16:00.0", 0x17, by_file=by_file)
    for address, kind, node in (
        ("0000:14:00.0", "gpu", 0), ("0000:15:01.0", "nic", 0), ("0000:17:00.0", "nvme", 0), ("0000:24:00.0", "gpu", 0), ("0000:84:00.0", "gpu", 1),
        ("0000:30:00.0", "nic", 0), ("0000:10:05.0", "nic", 0),
    ):  # fmt: skip
        files |= device(address, kind, node)
    assert ways(machine(tmp_path, files)) == {
        ("14", "24"): "PHB", ("14", "84"): "SYS", ("24", "84"): "SYS",
        ("14", "15"): "PIX", ("14", "17"): "PXB", ("14", "30"): "NODE", ("14", "10"): "PHB",
        ("24", "15"): "PHB", ("24", "17"): "PHB", ("24", "30"): "NODE", ("24", "10"): "PHB",
        ("84", "15"): "SYS", ("84", "17"): "SYS", ("84", "30"): "SYS", ("84", "10"): "SYS",
    }  # fmt: skip


def test_a_bridge_that_cannot_be_read_leaves_the_ways_unknown(tmp_path: Path) -> None:
    files = (
        {f"{PCI}/0000:10:01.0/class": "0x060400\n"}
        | device("0000:11:00.0", "gpu", 0)
        | device("0000:12:00.0", "nic", 0)
    )
    assert ways(machine(tmp_path, files)) == {("11", "12"): None}


def gpu(index: int, ends: tuple[str | None, ...] | None, up: int = 2) -> GpuDevice:
    return GpuDevice(
        uuid=f"GPU-{index}", index=index, pci=f"0000:0{index}:00.0", nvlinks=(True,) * up, nvlink_ends=ends
    )


def test_nvlinks_directly_and_over_switches() -> None:
    def links(*devices: GpuDevice) -> list[int | None]:
        found = nvlinks_between(GpuSnapshot(driver_version="1", devices=devices))
        pairs = [(a, b) for a in range(len(devices)) for b in range(a + 1, len(devices))]
        return [found.get(frozenset((f"0000:0{a}:00.0", f"0000:0{b}:00.0"))) for a, b in pairs]

    assert links(gpu(0, ("switch", "switch", None)), gpu(1, ("switch", "switch", "switch"))) == [2]
    assert links(gpu(0, ("0000:01:00.0", "0000:02:00.0")), gpu(1, ("0000:00:00.0",)), gpu(2, ("0000:00:00.0",))) == [
        1,
        1,
        0,
    ]
    assert links(gpu(0, None, up=0), gpu(1, ("switch",))) == [0]
    # Links are up, and what is at their far end was not asked.
    assert links(gpu(0, None), gpu(1, ("switch",))) == [None]


def test_the_table_is_that_of_nvidia_smi(tmp_path: Path) -> None:
    addresses = [f"0000:0{number}:00.0" for number in (6, 7)]
    files: dict[str, str | bytes] = {}
    for address in addresses:
        files |= device(address, "gpu", 0)
    files |= device("0000:03:00.0", "nic", 0)
    snapshot = {
        "driver_version": "580", "devices": [
            {"uuid": f"GPU-{number}", "index": number, "pci": address, "nvlinks": [True] * 18, "nvlink_ends": ["switch"] * 18}
            for number, address in enumerate(addresses)
        ],
    }  # fmt: skip
    files["tuneagent/gpus.json"] = json.dumps({"snapshot": snapshot})
    found = with_paths(machine(tmp_path, files))
    assert [path.told for path in found.paths] == ["NV18", "NODE", "NODE"]
    assert topology_text(found).split("\n\n")[-1].splitlines()[:4] == [
        "paths              GPU0 GPU1",
        "GPU0 0000:06:00.0     X NV18",
        "GPU1 0000:07:00.0  NV18    X",
        "0000:03:00.0       NODE NODE",
    ]


def test_a_device_without_a_node_belongs_to_the_only_one(tmp_path: Path) -> None:
    write_tree(tmp_path, {"sys/devices/system/cpu/online": "0\n", "sys/devices/system/node/node0/cpulist": "0\n"})
    for path, content in (device("0000:14:00.0", "gpu", -1) | device("0000:24:00.0", "nic", -1)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(str(content))
    found = with_paths(Facts(tree(Files(str(tmp_path)))))
    assert [one.way for one in found.paths] == ["NODE"]
    text = topology_text(found)
    assert "no node named by the firmware" not in text and "|- GPU 0000:14:00.0" in text


@pytest.mark.parametrize("place", sorted((FIXTURES / "topologies").iterdir()), ids=lambda place: place.name)
def test_gpus_of_real_machines_are_as_far_from_each_other_as_nvidia_smi_says(place: Path, tmp_path: Path) -> None:
    found = with_paths(Facts(unpack(str(place / "capture.tar.gz"), str(tmp_path))))
    lines = (place / "nvidia-smi-topo.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line.startswith("GPU")]
    told = {frozenset((path.one, path.other)): path.told for path in found.paths}
    addresses = [device.address for device in found.pci_gpus or ()]
    assert len(rows) == len(addresses) > 1
    for one, row in zip(addresses, rows, strict=True):
        for other, cell in zip(addresses, row[1:], strict=False):
            assert cell.strip() == ("X" if one == other else told[frozenset((one, other))])
