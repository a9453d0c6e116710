"""The GPU tunables on the fake card: read, write, faults, undo, through the real child process and pynvml."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import session_of
from tuneagent.contracts.values import Disruption, Unreadable
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.gpu.ask import read_gpus
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.host.commands import LocalExec
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.host.processes import LocalProcesses

UUID = "GPU-00000000-0000-0000-0000-000000000001"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("b0\n")
    return Host(Files(str(tmp_path)), LocalExec(), LocalProcesses())


def _apply(session: HostTuner) -> dict[str, str]:
    return {
        item.subject: f"{item.result} {item.reason}".strip() for item in session.apply(limit=Disruption.GPU).outcomes
    }


def _layout(host: Host) -> list[tuple[str, int, int]]:
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot)
    mig = facts.devices[0].mig
    assert mig is not None
    return [(one.profile, one.start, len(one.compute_instances)) for one in mig.instances]


def test_power_limit_and_persistence_there_and_back(card: Any, host: Host) -> None:
    session = session_of(host, {"gpu": {"persistence": False, "powerLimitW": 650}})
    assert set(_apply(session).values()) == {"verified"}
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot)
    assert (facts.devices[0].persistence, facts.devices[0].power_limit_w) == (False, 650.0)
    assert not session.observe().plan.changes
    assert {item.result for item in session.undo()} == {"undone"}
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot)
    assert (facts.devices[0].persistence, facts.devices[0].power_limit_w) == (True, 700.0)


def test_no_permission_is_a_named_failure(card: Any, host: Host) -> None:
    session = session_of(host, {"gpu": {"powerLimitW": 650}})
    card.knobs("no_permission")
    (result,) = _apply(session).values()
    assert result.startswith("failed") and "Insufficient Permissions" in result


def test_mig_layout_there_and_back(card: Any, host: Host) -> None:
    session = session_of(host, {"mig": {"layout": {"1g.10gb": 7}}})
    assert _apply(session) == {f"gpu:{UUID}": "verified"}
    assert _layout(host) == [("1g.10gb", start, 1) for start in range(7)]
    assert not session.observe().plan.changes
    assert [item.result for item in session.undo()] == ["undone"]
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot) and facts.devices[0].mig is not None
    assert facts.devices[0].mig.current is False


def test_instances_that_fit_are_kept(card: Any, host: Host) -> None:
    _apply(session_of(host, {"mig": {"layout": {"1g.10gb": [6], "3g.40gb": [0]}}}))
    card.knobs("pid 0 4242 1")  # The 3g instance has id 1, as on real cards.
    session = session_of(host, {"mig": {"layout": {"3g.40gb": 1, "1g.10gb": 3}}})
    assert _apply(session) == {f"gpu:{UUID}": "verified"}
    assert [one[:2] for one in _layout(host)] == [("3g.40gb", 0), ("1g.10gb", 4), ("1g.10gb", 5), ("1g.10gb", 6)]


def test_an_instance_in_use_is_never_touched(card: Any, host: Host) -> None:
    _apply(session_of(host, {"mig": {"layout": {"3g.40gb": [4]}}}))
    card.knobs("pid 0 4242 1")
    plan = session_of(host, {"mig": {"layout": {"7g.80gb": 1}}}).observe().plan
    assert not plan.changes
    assert "in use by pid 4242" in plan.refused[0].reason
    assert _layout(host) == [("3g.40gb", 4, 1)]


@pytest.mark.parametrize("number", range(1, 5))
def test_a_create_that_fails_brings_the_old_layout_back(card: Any, host: Host, number: int) -> None:
    _apply(session_of(host, {"mig": {"layout": {"2g.20gb": [4]}}}))
    before = _layout(host)
    card.knobs(f"fail_create {number}")
    session = session_of(host, {"mig": {"layout": {"1g.10gb": 4}}})
    (result,) = _apply(session).values()
    assert result.startswith("failed") and "Insufficient Resources" in result
    card.knobs()
    assert _layout(host) == before


def test_mode_that_needs_a_reset_is_said_and_not_done(card: Any, host: Host) -> None:
    card.knobs("reset_required 0")
    (result,) = _apply(session_of(host, {"mig": {"layout": {"1g.10gb": 1}}})).values()
    assert result.startswith("failed") and "requires restart" in result


def test_a_lost_gpu_is_unknown(card: Any, host: Host) -> None:
    card.knobs("lost 0")
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot) and facts.lost == {"0": "GpuIsLost"}
    report = session_of(host, {"gpu": {"persistence": True}}).observe().report
    assert [finding.verdict.value for finding in report.findings] == ["unknown"]


def test_a_slow_nvml_does_not_hang_us(card: Any, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneagent.gpu.ask.SNAPSHOT_TIMEOUT_S", 1.0)
    card.knobs("slow_ms 3000")
    started = time.monotonic()
    facts = read_gpus(host)
    assert isinstance(facts, Unreadable) and "no answer within 1 s" in facts.error
    assert time.monotonic() - started < 20


def test_gpu_processes_are_reported_and_pinned_on_request(card: Any, host: Host, tmp_path: Path) -> None:
    base = "sys/bus/pci/devices/0000:00:06.0"
    for name, content in {
        f"{base}/class": "0x030200", f"{base}/numa_node": "-1", f"{base}/local_cpulist": "0",
        "sys/devices/system/cpu/online": "0-1", "sys/devices/system/node/node0/cpulist": "0-1",
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    with subprocess.Popen(["taskset", "-c", "0-1", "sleep", "60"]) as process:
        try:
            time.sleep(0.3)
            card.knobs(f"pid 0 {process.pid}")
            report_only = session_of(host, {"gpuProcesses": {"cpus": "local"}})
            plan, judged = (seen := report_only.observe()).plan, seen.assessments
            assert [item.finding.observed for item in judged] == [["0-1"]]
            assert not plan.changes and plan.refused[0].reason == "action is report"
            pinning = session_of(host, {"gpuProcesses": {"cpus": "local", "action": "pin"}})
            assert list(_apply(pinning).values()) == ["verified"]
            assert LocalProcesses().affinity(process.pid) == (frozenset({0}),)
            assert [item.result for item in pinning.undo()] == ["undone"]
            assert LocalProcesses().affinity(process.pid) == (frozenset({0, 1}),)
        finally:
            process.kill()
