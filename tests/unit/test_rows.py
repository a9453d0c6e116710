"""Every row of the tables of checks, files, keys and GPU facts: right, wrong, gone, damaged, refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machines
import msgspec
import pytest
import yaml
from support import FIXTURES, PlayedProcesses, session_of, tree, write_tree
from tuneagent.commands.settings import load_profile
from tuneagent.contracts.report import Verdict
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.errors import CommandFailed
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.host.machine import tree_host
from tuneagent.host.recording import CaptureFiles
from tuneagent.host.state_folder import StateFolder
from tuneagent.tunables import checks, gpu_health, kernel_files
from tuneagent.tunables.tables.sysctl import ROWS as SYSCTL_ROWS

ROWS = FIXTURES / "rows"
CASES: dict[str, dict[str, Any]] = yaml.safe_load((ROWS / "checks.yaml").read_text())
GPU_CASES: dict[str, dict[str, Any]] = yaml.safe_load((ROWS / "gpuHealth.yaml").read_text())
FILE_CASES: dict[str, dict[str, Any]] = yaml.safe_load((ROWS / "kernelFiles.yaml").read_text())
SYSCTL_CASES: dict[str, list[Any]] = yaml.safe_load((ROWS / "sysctl.yaml").read_text())
BRIDGE = "sys/devices/pci0000:00/0000:1a:00.0"


class PlayedCommands:
    """Programs with fixed answers."""

    available = True
    label = "played"

    def __init__(self, answers: dict[str, str], code: int = 0) -> None:
        self.answers = answers
        self.code = code

    def run(self, argv: Any, timeout_s: float = 20.0) -> Completed:
        del timeout_s
        name = " ".join(argv)
        if name not in self.answers:
            raise CommandFailed(f"{argv[0]}: No such file or directory")
        return Completed(self.code, self.answers[name], "refused" if self.code else "")


def config_space(*, acs: int | None = None, payload: int = 256, read_request: int = 512, relaxed: bool = True) -> bytes:
    """A PCI Express function's configuration space with the registers given."""
    data = bytearray(4096)
    struct.pack_into("<H", data, 0x06, 0x10)
    data[0x34] = 0x40
    data[0x40], data[0x41] = 0x10, 0
    control = (payload.bit_length() - 8) << 5 | (read_request.bit_length() - 8) << 12 | relaxed << 4
    struct.pack_into("<H", data, 0x48, control)
    if acs is not None:
        struct.pack_into("<I", data, 0x100, 0x1000D)
        struct.pack_into("<H", data, 0x106, acs)
    return bytes(data)


def gpu(**fields: Any) -> dict[str, Any]:
    return {"uuid": "GPU-0001", "index": 0, "pci": "0000:1b:00.0", "pids": [], **fields}


def snapshot(gpus: list[dict[str, Any]] | None, driver: str = "580.159.04") -> str:
    if gpus is None:
        return msgspec.json.encode({"absent": "no NVIDIA driver"}).decode()
    devices = [gpu(**one) for one in gpus]
    return msgspec.json.encode({"snapshot": {"driver_version": driver, "devices": devices}}).decode()


def make(root: Path, case: dict[str, Any], *, wrong: bool) -> dict[str, str]:
    """Write a case's machine; returns the answers of its programs."""
    files = machines.build(case["machine"]) if "machine" in case else {}
    files.update(case.get("files", {}))
    files["tuneagent/gpus.json"] = snapshot(case.get("gpus"))
    if wrong:
        files.update(case.get("wrong", {}))
        if "wrong_gpus" in case:
            files["tuneagent/gpus.json"] = snapshot(case["wrong_gpus"])
        if "wrong_driver" in case:
            files["tuneagent/gpus.json"] = snapshot(case["gpus"], case["wrong_driver"])
    folders = [str(Path(path).parent) for path, text in files.items() if text is None]
    write_tree(root, {path: text for path, text in files.items() if text is not None}, folders)
    if case.get("rdma"):
        write_tree(root, {f"{machines.PCI}/0000:4b:00.0/infiniband/mlx5_0/x": "", "sys/class/infiniband/mlx5_0/x": ""})
    config = dict(case.get("wrong_config" if wrong else "pci_config", {}))
    if config:
        path = root / machines.PCI / machines.address(config.pop("device")) / "config"
        path.write_bytes(config_space(**config))
    if "pci_bridge" in case:
        # The GPU below a bridge, as sysfs shows it: the name in bus/pci is a link into the tree of buses.
        real = root / BRIDGE / "0000:1b:00.0"
        real.parent.mkdir(parents=True)
        (root / machines.PCI / "0000:1b:00.0").rename(real)
        (root / machines.PCI / "0000:1b:00.0").symlink_to("/" + f"{BRIDGE}/0000:1b:00.0")
        (root / machines.PCI / "0000:1a:00.0").symlink_to("/" + BRIDGE)
        (root / BRIDGE / "class").write_text("0x060400\n")
        (root / BRIDGE / "config").write_bytes(config_space(**case["wrong_bridge" if wrong else "pci_bridge"]))
    commands = case.get("wrong_commands" if wrong else "commands", {})
    return dict(commands)


def verdict(root: Path, name: str, case: dict[str, Any], commands: PlayedCommands | None, **more: Any) -> Verdict:
    """Verdict of one row."""
    unreadable = more.get("unreadable") or {}
    host = tree(CaptureFiles(str(root), unreadable), commands, unreadable)
    wrong = more.get("wrong", False)
    if "processes" in case:
        host = type(host)(
            host.files, host.exec, PlayedProcesses(case["wrong_processes" if wrong else "processes"]),
            source="tree", now=host.now, unreadable=host.unreadable,
        )  # fmt: skip
    session = session_of(host, {"checks": {name: case.get("spec", True)}})
    (finding,) = session.observe().report.findings
    assert finding.sources and finding.why
    return finding.verdict


def test_every_row_has_a_case() -> None:
    assert set(CASES) == set(checks.ROWS)
    assert set(GPU_CASES) == set(gpu_health.ROWS)
    assert set(FILE_CASES) == set(kernel_files.ROWS)
    assert set(SYSCTL_CASES) == set(SYSCTL_ROWS)
    assert len(SYSCTL_ROWS) <= 40


@pytest.mark.parametrize("name", sorted(CASES))
def test_check_right_and_wrong(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    commands = make(tmp_path / "right", case, wrong=False)
    assert verdict(tmp_path / "right", name, case, PlayedCommands(commands)) is Verdict.CONVERGED
    commands = make(tmp_path / "wrong", case, wrong=True)
    assert verdict(tmp_path / "wrong", name, case, PlayedCommands(commands), wrong=True) is Verdict.DRIFTED


def _key(case: dict[str, Any]) -> str | None:
    if "key" in case:
        return str(case["key"])
    if "pci_bridge" in case:
        return f"{BRIDGE}/config"
    if "pci_config" in case:
        return f"{machines.PCI}/{machines.address(case['pci_config']['device'])}/config"
    return next(iter(case.get("wrong", {})), None)


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if _key(case)))
def test_check_gone_damaged_and_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    key = _key(case)
    assert key is not None

    def after(folder: str, change: Any, unreadable: dict[str, str] | None = None) -> Verdict:
        root = tmp_path / folder
        commands = make(root, case, wrong=False)
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        change(path)
        return verdict(root, name, case, PlayedCommands(commands), unreadable=unreadable)

    gone = {"unknown": Verdict.UNKNOWN}.get(case.get("gone", ""), Verdict(case.get("gone", "unsupported")))
    assert after("gone", lambda path: path.unlink(missing_ok=True)) is gone
    garbled = Verdict(case.get("garbled", "unknown"))
    assert after("garbled", lambda path: path.write_bytes(b"\xff\xfe\x00\x01")) is garbled
    if "garbled" not in case and "pci_config" not in case and "pci_bridge" not in case:
        refused = after("refused", lambda path: None, {key: "EACCES Permission denied"})
        assert refused is Verdict.UNKNOWN


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if "commands" in case))
def test_check_by_program_missing_or_failing(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    commands = make(tmp_path, case, wrong=False)
    assert verdict(tmp_path, name, case, PlayedCommands({})) is Verdict.UNKNOWN
    failing = verdict(tmp_path, name, case, PlayedCommands(dict.fromkeys(commands, ""), code=1))
    assert failing in (Verdict.UNKNOWN, Verdict.UNSUPPORTED)


@pytest.mark.parametrize("name", sorted(GPU_CASES))
def test_gpu_fact(name: str, tmp_path: Path) -> None:
    case = GPU_CASES[name]
    answers = {
        Verdict.CONVERGED: case["right"],
        Verdict.DRIFTED: case["wrong"],
        Verdict.UNSUPPORTED: {"errors": dict.fromkeys({**case["right"], **case["wrong"]}, "NotSupported")},
        Verdict.UNKNOWN: {"errors": dict.fromkeys({**case["right"], **case["wrong"]}, "GpuIsLost")},
    }
    for wanted, answer in answers.items():
        silent = {"pids": None} if wanted in (Verdict.UNSUPPORTED, Verdict.UNKNOWN) else {}
        fields = {**answer, **silent}
        root = tmp_path / wanted.value
        write_tree(root, {"tuneagent/gpus.json": snapshot([fields])})
        session = session_of(tree(Files(str(root))), {"gpuHealth": {name: case.get("spec", True)}})
        (finding,) = session.observe().report.findings
        assert finding.verdict is wanted, finding
        assert finding.sources and finding.why


def _written_rows() -> Iterator[tuple[str, str, str, Any, str, str]]:
    for name, case in FILE_CASES.items():
        yield "kernelFiles", name, kernel_files.ROWS[name].path, case["want"], case["wrong"], case["right"]
    for key, (want, wrong, right) in SYSCTL_CASES.items():
        yield "sysctl", key, f"proc/sys/{key.replace('.', '/')}", want, str(wrong), str(right)


@pytest.mark.parametrize(("tunable", "name", "path", "want", "wrong", "right"), list(_written_rows()))
def test_written_row(tunable: str, name: str, path: str, want: Any, wrong: str, right: str, tmp_path: Path) -> None:
    folders = ["etc/sysctl.d", "etc/tmpfiles.d"]
    # A key of a module is there at boot only with the module.
    extra = {"etc/modules-load.d/x.conf": "nf_conntrack\n"} if "nf_conntrack" in name else {}
    offered = kernel_files.ROWS[name].offered if tunable == "kernelFiles" else ""
    if offered:
        extra[offered] = f"{wrong} {right}\n"

    def session(folder: str, text: str | None, unreadable: dict[str, str] | None = None) -> Any:
        root = tmp_path / folder
        write_tree(root, extra if text is None else {path: f"{text}\n", **extra}, [*folders, str(Path(path).parent)])
        return session_of(tree(Files(str(root)), None, unreadable), {tunable: {name: want}})

    wrong_session = session("wrong", wrong)
    assert wrong_session.observe().report.findings[0].verdict is Verdict.DRIFTED
    assert [outcome.result for outcome in wrong_session.apply().outcomes] == ["verified"]
    assert (tmp_path / "wrong" / path).read_text().strip() == right
    assert not wrong_session.observe().plan.changes
    assert wrong_session.observe().report.findings[0].verdict is Verdict.CONVERGED
    assert all(result.is_settled for result in wrong_session.undo())
    assert (tmp_path / "wrong" / path).read_text().split() == wrong.split()
    found = session("right", right).observe().report.findings[0]
    assert found.verdict in (Verdict.CONVERGED, Verdict.NOT_PERSISTED)
    assert found.sources and found.why
    assert session("gone", None).observe().report.findings[0].verdict is Verdict.UNSUPPORTED
    (tmp_path / "garbled").mkdir()
    garbled = session("garbled", "x")
    (tmp_path / "garbled" / path).write_bytes(b"\xff\xfe\x00\x01")
    assert garbled.observe().report.findings[0].verdict is Verdict.UNKNOWN
    refused = session("refused", wrong, {path: "EACCES Permission denied"})
    assert refused.observe().report.findings[0].verdict is Verdict.UNKNOWN


def test_at_least_110_settings_and_checks_in_every_group() -> None:
    groups = {row.group for row in checks.ROWS.values()} | {row.group for row in kernel_files.ROWS.values()}
    wanted = {"cpu", "numa", "memory", "hugepages", "irq", "kernel arguments", "storage", "network", "rdma",
              "pcie/iommu", "gpu driver", "container runtime", "kubelet", "services/time/limits", "health",
              "cuda/nccl environment"}  # fmt: skip
    assert wanted <= groups
    total = len(checks.ROWS) + len(gpu_health.ROWS) + len(kernel_files.ROWS) + len(SYSCTL_ROWS)
    assert total - len(SYSCTL_ROWS) >= 110


def test_an_idle_link_speed_is_never_judged() -> None:
    # A GPU that idles lowers its link's speed, never its width.
    rows = [name.lower() for name in (*checks.ROWS, *gpu_health.ROWS)]
    assert "pciewidth" in rows
    assert not [name for name in rows if "pci" in name and ("speed" in name or "gen" in name)]


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


@pytest.mark.parametrize("profile", ["generic", "training", "inference", "mig-multi-tenant"])
def test_of_an_empty_tree_nothing_is_known(tmp_path: Path, profile: str) -> None:
    """Not one row is fine, and not one is said to have no place here: there is nothing to tell it from."""
    host = tree_host(str(tmp_path))
    tuner = HostTuner(host, StateFolder(host.files, STATE_FOLDER), load_profile(None, profile))
    found = {one.name: (one.verdict.value, one.advice) for one in tuner.observe().report.findings}
    assert {name: told for name, told in found.items() if told[0] != "unknown"} == {}
