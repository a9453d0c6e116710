"""MIG touches what is named and nothing else, keeps compute instances that are not its own, and says what is there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support import session_of
from tuneagent.contracts.report import Verdict
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.errors import ProfileInvalid
from tuneagent.gpu.ask import read_gpus
from tuneagent.gpu.snapshot import GpuSnapshot
from tuneagent.host.commands import LocalExec
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.host.processes import LocalProcesses
from tuneagent.host.state_folder import StateFolder
from tuneagent.node.metrics import Metrics
from tuneagent.node.passes import run_pass

ONE, TWO = (f"GPU-00000000-0000-0000-0000-00000000000{number}" for number in (1, 2))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("b0\n")
    return Host(Files(str(tmp_path)), LocalExec(), LocalProcesses())


@pytest.fixture
def pair(card: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two cards of one kind."""
    head, _, first = Path(card.environment["FAKE_NVML_BOARD"]).read_text().partition("gpu 0\n")
    second = (
        first.replace(ONE, TWO)
        .replace("pci 0 0 6", "pci 0 0 7")
        .replace("nvmlDeviceGetIndex 0", "nvmlDeviceGetIndex 1")
    )
    board = tmp_path / "pair.board"
    board.write_text(f"{head}gpu 0\n{first}\ngpu 1\n{second}")
    monkeypatch.setenv("FAKE_NVML_BOARD", str(board))
    return card


def apply(session: HostTuner) -> dict[str, str]:
    outcomes = session.apply(limit=Disruption.GPU, over_other=True).outcomes
    return {item.subject: f"{item.result} {item.reason}".strip() for item in outcomes}


def layout(host: Host, number: int = 0) -> tuple[bool, list[tuple[str, int, str | None]]]:
    """Mode, and instances with their compute layout, as the card says it."""
    facts = read_gpus(host)
    assert isinstance(facts, GpuSnapshot)
    mig = facts.devices[number].mig
    assert mig is not None
    return mig.current, [(one.profile, one.start, mig.computes(one)) for one in mig.instances]


def divide(profile: str, *slices: int) -> None:
    """What someone else does to the idle instance of that profile: compute instances of their own choice."""
    code = f"""
import ctypes, pynvml
from tuneagent.gpu.mig.read import computes_of, instances_of, mig_profiles
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
profile = next(one for one in mig_profiles(card) if one.name == {profile!r})
instance = instances_of(card, profile)[0]
for compute, _ in computes_of(instance):
    pynvml.nvmlComputeInstanceDestroy(compute)
for wanted in {slices!r}:
    for index in range(8):
        try:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, index, 0, version=2)
        except pynvml.NVMLError:
            continue
        if info.sliceCount == wanted:
            pynvml.nvmlGpuInstanceCreateComputeInstance(instance, info.id)
            break
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_gpu_that_is_not_named_is_not_touched(pair: Any, host: Host) -> None:
    apply(session_of(host, {"mig": {"gpus": {TWO: {"2g.20gb": 1}}}}, "before"))
    assert layout(host) == (False, [])
    before = layout(host, 1)
    session = session_of(host, {"mig": {"gpus": {ONE: {"1g.10gb": 2}}}}, "before")
    plan, judged = (seen := session.observe()).plan, seen.assessments
    # What was written for the other one before goes back, since the profile no longer names it; nothing else is planned.
    assert {change.subject: change.persistence for change in plan.changes} == {
        f"gpu:{ONE}": "driver", f"gpu:{TWO}": "baseline",
    }  # fmt: skip
    assert [item.finding.subject for item in judged] == [f"gpu:{ONE}"]
    session.undo()
    # The same with an instance that someone else made.
    apply(session_of(host, {"mig": {"gpus": {TWO: {"2g.20gb": 1}}}}, "before"))
    (Path(host.files.root) / "var/lib/tuneagent/journal.jsonl").unlink()
    assert apply(session) == {f"gpu:{ONE}": "verified"}
    assert layout(host, 1) == before
    assert layout(host) == (True, [("1g.10gb", 0, None), ("1g.10gb", 1, None)])
    session.undo()
    assert layout(host, 1) == before


def test_enabled_alone_means_the_mode_and_no_instance(pair: Any, host: Host) -> None:
    apply(session_of(host, {"mig": {"gpus": {ONE: {"3g.40gb": 1}}}}))
    (Path(host.files.root) / "var/lib/tuneagent/journal.jsonl").unlink()
    before = layout(host)
    session = session_of(host, {"mig": {"enabled": True}})
    assert apply(session) == {f"gpu:{TWO}": "verified"}
    assert layout(host) == before and layout(host, 1) == (True, [])
    assert not session.observe().plan.changes


@pytest.mark.parametrize("name", ["1", TWO, TWO.upper(), "0000:00:07.0", "00:07.0"])
def test_a_gpu_is_named_by_uuid_index_or_address(pair: Any, host: Host, name: str) -> None:
    assert apply(session_of(host, {"mig": {"gpus": {name: {"1g.10gb": 1}}}})) == {f"gpu:{TWO}": "verified"}
    assert layout(host) == (False, [])


@pytest.mark.parametrize("name", ["2", "GPU-0000", "0000:99:00.0", "h100"])
def test_a_name_that_is_no_gpu_here_is_a_fault_on_a_host_and_gone_in_a_cluster(
    pair: Any, host: Host, name: str
) -> None:
    session = session_of(host, {"mig": {"gpus": {name: {"1g.10gb": 1}}}})
    found = {finding.subject: finding for finding in session.observe().report.findings}[f"gpu:{name}"]
    assert found.verdict is Verdict.UNSUPPORTED and "gone" in found.advice and ONE in found.advice
    assert not session.observe().plan.changes
    strict = HostTuner(host, StateFolder(host.files, session.state.folder), session.profile, is_strict=True)
    with pytest.raises(ProfileInvalid) as caught:
        strict.observe()
    assert ONE in str(caught.value) and TWO in str(caught.value) and f"spec.tune.mig.gpus.{name}" in str(caught.value)
    pair.knobs("lost 1")
    assert {one.verdict for one in strict.observe().report.findings if one.subject == f"gpu:{name}"} == {
        Verdict.UNKNOWN
    }


@pytest.mark.parametrize("slices", [(1,), (1, 1, 1), (1, 2), (2,), ()])
@pytest.mark.parametrize("wanted", [{"layout": {"3g.40gb": 1}}, {"layout": {"1g.10gb": 7}}, {"enabled": False}])
def test_divided_compute_slices_are_seen_named_and_kept(
    card: Any, host: Host, slices: tuple[int, ...], wanted: dict[str, Any]
) -> None:
    apply(session_of(host, {"mig": {"layout": {"3g.40gb": [4]}}}))
    divide("3g.40gb", *slices)
    before = layout(host)
    said = "+".join(f"{one}c" for one in slices) or "none"
    assert before == (True, [("3g.40gb", 4, said)])
    session = session_of(host, {"mig": wanted})
    (finding,) = session.observe().report.findings
    assert finding.verdict is Verdict.DRIFTED
    assert finding.observed["instances"] == [{"profile": "3g.40gb", "start": 4, "compute": said}]
    if not slices and wanted == {"layout": {"3g.40gb": 1}}:
        # Nobody's yet: it is given the compute instance that the layout means.
        assert apply(session) == {f"gpu:{ONE}": "verified"}
        assert layout(host) == (True, [("3g.40gb", 4, None)])
        return
    assert "compute instances of its own" in session.observe().plan.refused[0].reason
    assert apply(session) == {}
    assert layout(host) == before
    for force in (False, True):
        results = session.undo(force=force)
        assert [item.result for item in results] == ["failed" if force else "conflict"], results
        assert layout(host) == before


def told(reason: str) -> str:
    """The part of a message that says what is there."""
    return reason.partition("; now ")[2].partition(";")[0]


@pytest.mark.parametrize(
    "knob", ["fail_create 1", "fail_create 3", "fail_create_from 1", "fail_create_from 3", "fail_destroy"]
)
def test_what_is_said_after_a_failure_is_what_is_there(card: Any, host: Host, knob: str) -> None:
    apply(session_of(host, {"mig": {"layout": {"2g.20gb": [4], "1g.10gb": [0]}}}, "p"))
    session = session_of(host, {"mig": {"layout": {"1g.10gb": 5}}}, "p")
    before = layout(host)
    card.knobs(knob)
    (result,) = apply(session).values()
    assert result.startswith("failed")
    mode, instances = layout(host)
    assert mode
    said = told(result)
    for profile, start, computes in instances:
        assert f"{profile} at {start}" + (f" (compute instances: {computes})" if computes else "") in said, result
    assert said.count(" at ") == len(instances), result
    if instances != before[1]:
        assert "going back failed" in result
    # What is left there is ours: undo brings back what was before everything, and calls it nobody else's.
    card.knobs()
    assert [item.result for item in session.undo()] == ["undone"]
    assert layout(host) == (False, [])


def test_a_destroy_refused_after_its_compute_instance_went_leaves_it_whole(card: Any, host: Host) -> None:
    apply(session_of(host, {"mig": {"layout": {"2g.20gb": [4]}}}))
    before = layout(host)
    card.knobs("fail_destroy")
    (result,) = apply(session_of(host, {"mig": {"layout": {"1g.10gb": 7}}})).values()
    assert result.endswith("now MIG is on with 2g.20gb at 4")
    assert layout(host) == before


def reload_driver(card: Any) -> None:
    """On Hopper and later mode and instances end with the driver."""
    Path(card.environment["FAKE_NVML_STATE"]).unlink()


def test_what_was_applied_comes_back_after_a_driver_reload(card: Any, host: Host, tmp_path: Path) -> None:
    session = session_of(host, {"mig": {"layout": {"1g.10gb": 3}}, "gpu": {"powerLimitW": 650}}, drift="repair")
    stop, metrics = threading.Event(), Metrics()
    # Never applied: the daemon has no leave to change what only an idle GPU can change.
    run_pass(session, stop, metrics, again=True)
    assert layout(host) == (False, [])
    apply(session)
    after = layout(host)
    assert after == (True, [("1g.10gb", start, None) for start in range(3)])
    for boot in ("b0", "b1"):
        reload_driver(card)
        (tmp_path / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
        assert layout(host) == (False, [])
        # In use: it is not touched, and comes back when it is free.
        card.knobs("pid 0 4242")
        run_pass(session, stop, metrics, again=True)
        assert layout(host) == (False, [])
        card.knobs()
        run_pass(session, stop, metrics, again=True)
        assert layout(host) == after
    # Another layout was never granted.
    other = session_of(host, {"mig": {"layout": {"1g.10gb": 4}}, "gpu": {"powerLimitW": 650}}, drift="repair")
    run_pass(other, stop, metrics, again=True)
    assert layout(host) == after


def test_one_gpu_under_two_names_is_a_fault(pair: Any, host: Host) -> None:
    session = session_of(host, {"mig": {"gpus": {"0": {"1g.10gb": 1}, ONE: {"2g.20gb": 1}}}})
    plan = session.observe().plan
    assert not plan.changes and [one.reason for one in plan.refused] == [f"0 and {ONE} are names for the same GPU"]
    with pytest.raises(ProfileInvalid, match="the same GPU as 0"):
        HostTuner(host, StateFolder(host.files, session.state.folder), session.profile, is_strict=True).observe()


@pytest.mark.parametrize("spec", [{"gpus": {}}, {"enabled": False, "gpus": {}}, {"layout": {"1g.10gb": 1}, "gpus": {}}])
def test_an_empty_list_of_gpus_does_not_mean_all(spec: dict[str, Any], pair: Any, host: Host) -> None:
    with pytest.raises(ProfileInvalid, match="names no GPU"):
        session_of(host, {"mig": spec}).observe()
