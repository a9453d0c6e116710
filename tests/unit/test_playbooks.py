"""Playbooks: the files that are shipped, faults of others, and what is told of a run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from support import assert_keeps_to_its_schema, session_of, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.contracts.outcome import Undone
from tuneagent.contracts.playbook import Playbook, PlaybookResult
from tuneagent.contracts.proof import Proof
from tuneagent.engine.host_tuner import HostTuner
from tuneagent.errors import BaselineFailed, MeasureFailed, NotUndone, ProfileInvalid, UsageError, WriteFailed
from tuneagent.experiments import playbook_run, prove
from tuneagent.experiments.measuring import Subject
from tuneagent.experiments.metrics import Metric
from tuneagent.experiments.playbook_files import playbook_of, read_playbook, shipped_playbooks, tune_of
from tuneagent.experiments.playbook_run import Watch, run_playbook
from tuneagent.experiments.trial import Limits
from tuneagent.host.files import Files
from tuneagent.host.paths import append_output, refuse_new_file, write_output
from tuneagent.profile_files.document import parse
from tuneagent.report.playbook import playbook_text, playbooks_text, result_text
from tuneagent.tunables.registry import checked, registry

DOCUMENT: dict[str, Any] = {
    "apiVersion": "tuneagent.dev/v1alpha1", "kind": "Playbook", "metadata": {"name": "tps"},
    "spec": {
        "title": "t", "workload": "w", "appliesTo": "a", "why": "y", "measure": {"probes": ["clock"]}, "limitSeconds": 10,
        "hypotheses": [
            {"name": "down", "tune": {"sysctl": {"vm.swappiness": 10}}, "expects": "e", "source": "s"},
            {"name": "rival", "tune": {"sysctl": {"vm.swappiness": 5}}, "expects": "e", "source": "s"},
            {"name": "dear", "tune": {"sysctl": {"vm.page-cluster": 5}}, "expects": "e", "source": "s"},
            {"name": "cheap", "tune": {"sysctl": {"vm.page-cluster": 1}}, "expects": "e", "source": "s", "dispute": "d"},
            {"name": "as-it-is", "tune": {"sysctl": {"vm.stat_interval": 1}}, "expects": "e", "source": "s"},
            {"name": "reboot", "tune": {"kernelArguments": {"nosmt": True}}, "expects": "e", "source": "s"},
        ],
    },
}  # fmt: skip
FILES = {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/page-cluster": "3\n", "proc/sys/vm/stat_interval": "1\n",
         "boot/grub/grub.cfg": "", "etc/default/grub": "", "proc/cmdline": "ro\n"}  # fmt: skip


def changed(**paths: Any) -> dict[str, Any]:
    """The document with some values replaced; `a__b` is b in a, and None takes it away."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in paths.items():
        *above, last = path.split("__")
        place: Any = document
        for step in above:
            place = place[int(step) if step.isdigit() else step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return document


@pytest.mark.parametrize("name", shipped_playbooks())
def test_a_shipped_playbook_is_valid_and_fits_80_columns(name: str) -> None:
    book = read_playbook(name, registry())
    assert book.metadata.name == name
    text = playbook_text(book, 80)
    assert [line for line in text.splitlines() if len(line) > 80 and "{" not in line and "http" not in line] == []
    every = tune_of(book.spec.hypotheses)
    document = {
        "apiVersion": book.api_version,
        "kind": "TuningProfile",
        "metadata": {"name": name},
        "spec": {"tune": every},
    }
    checked(document, name, registry())


def test_the_playbooks_that_were_promised_are_there() -> None:
    assert set(shipped_playbooks()) >= {
        "quiet-node", "llm-inference-latency", "llm-training", "data-loading", "mig-multi-tenant", "multi-node-rdma",
        "cpu-offload", "checkpoint-storage",
    }  # fmt: skip
    books = [read_playbook(name, registry()) for name in shipped_playbooks()]
    assert all(len(line) <= 80 for line in playbooks_text(books, 80).splitlines())


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "not a mapping"), (changed(kind="TuningProfile"), "kind"), (changed(spec__hypotheses=[]), "hypotheses"),
        (changed(spec__title=""), "title"), (changed(spec__extra=1), "extra"), (changed(metadata__name="A b"), "name"),
        (changed(spec__measure={}), "neither probes nor a command"), (changed(spec__measure={"probes": ["clok"]}), "did you mean 'clock'"),
        (changed(spec__measure={"command": "true"}), "belong together"),
        (changed(spec__measure={"command": "true", "metrics": [{"read": "("}]}), "not a regular expression"),
        (changed(spec__hypotheses__1__name="down"), "'down' is there twice"),
        (changed(spec__hypotheses__1__tune={"sysctl": {"kernel.core_pattern": "|x"}}), r"spec.hypotheses\[1\].tune.sysctl"),
        (changed(spec__hypotheses__1__tune={"nothing": {}}), r"spec.hypotheses\[1\].tune.nothing: unknown"),
        (changed(spec__hypotheses__0__tune={}), "tune"), (changed(spec__limitSeconds=1), "limitSeconds"),
        (changed(spec__hypotheses__2__source=None), "source"),
    ],
)  # fmt: skip
def test_faults_of_a_playbook(document: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        playbook_of(document, "x.yaml", registry())


def test_which_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    assert read_playbook(str(path), registry()).metadata.name == "tps"
    with pytest.raises(UsageError, match="did you mean 'quiet-node'"):
        read_playbook("quiet-nod", registry())
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_playbook(str(path), registry())
    for wrong in (tmp_path / "none.yaml", tmp_path):
        done = CliRunner().invoke(cli, ["playbook", "show", f"{wrong}/"])
        assert done.exit_code == 2, done.output


def test_every_fault_is_told_at_once() -> None:
    document = changed(
        metadata__name="A b", spec__title="", spec__limitSeconds=1, spec__marginPercent=99, spec__hypotheses__0__expects=5,
        spec__hypotheses__1__source=None, spec__extra=1,
    )  # fmt: skip
    with pytest.raises(ProfileInvalid) as raised:
        playbook_of(document, "x.yaml", registry())
    assert [fault.partition(":")[0] for fault in raised.value.faults] == [
        "spec.hypotheses[0].expects", "spec.hypotheses[1].source", "metadata.name", "spec.title", "spec.limitSeconds",
        "spec.marginPercent", "spec.extra",
    ]  # fmt: skip


def test_a_playbook_is_not_written_over_and_not_run_where_its_result_could_not_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    for option, place, told in (
        ("--write", path, "is there already"), ("--write", tmp_path / "none/x", "no such folder"),
        ("--write", Path("/proc/x"), "/proc/x"), ("--results", tmp_path, "not a regular file"), ("--write", Path("-"), "name of a file"),
    ):  # fmt: skip
        done = CliRunner().invoke(cli, ["playbook", "run", str(path), "--yes", option, str(place)])
        assert done.exit_code == 2, done.output
        assert told in done.output


def book() -> Playbook:
    return playbook_of(DOCUMENT, "x.yaml", registry())


def number_of(root: Path) -> float:
    """A host that is better with less swappiness, and worse with larger clusters."""
    read = {name: int((root / f"proc/sys/vm/{name}").read_text()) for name in ("swappiness", "page-cluster")}
    return 200.0 - read["swappiness"] - 10 * read["page-cluster"]


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, measure: Any = None, leave_one_out: bool = False
) -> tuple[HostTuner, PlaybookResult]:
    write_tree(tmp_path, FILES, ["etc/sysctl.d"])
    tuner = session_of(tree(Files(str(tmp_path))), {})
    monkeypatch.setattr(prove, "measurer", lambda subject, stop: measure or (lambda: {"n": number_of(tmp_path)}))
    ticks = iter(range(10**9))
    watch = Watch(lambda: False, lambda name, progress: None, lambda: float(next(ticks)), 0.0)
    subject = Subject("", [Metric("n", "higher")], 1.0)
    return tuner, run_playbook(tuner, book(), subject, Limits(10.0, 0.02), watch, leave_one_out=leave_one_out)


def test_winners_are_kept_and_losers_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner, found = run(tmp_path, monkeypatch, leave_one_out=True)
    assert_keeps_to_its_schema(found)
    assert [(step.name, step.outcome) for step in found.steps] == [
        ("down", "kept"), ("rival", "skipped"), ("dear", "undone"), ("cheap", "kept"), ("as-it-is", "skipped"),
        ("reboot", "skipped"),
    ]  # fmt: skip
    assert [(step.name, step.outcome) for step in found.left_out] == [("down", "kept"), ("cheap", "kept")]
    assert found.final is not None
    assert found.final.kept
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES | {
        "proc/sys/vm/swappiness": "10\n", "proc/sys/vm/page-cluster": "1\n",
    }  # fmt: skip
    profile = parse(yaml.safe_load(found.profile))
    assert profile.spec.tune == {"sysctl": {"vm.swappiness": 10, "vm.page-cluster": 1}}
    assert "# Not kept: dear (undone: n is worse with it)" in found.profile
    drop_in = (tmp_path / "etc/sysctl.d/99-zz-tuneagent.conf").read_text()
    assert "vm.swappiness" in drop_in
    tuner.undo()
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


def test_nothing_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner, found = run(tmp_path, monkeypatch, measure=lambda: {"n": 1.0})
    assert found.final is None
    assert found.profile == ""
    assert {step.outcome for step in found.steps} == {"undone", "skipped"}
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES
    assert not tuner.journal.applied()
    assert result_text(found, 80).startswith("NOT KEPT: no hypothesis helps on this host.")


def test_winners_that_do_not_help_together_are_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = prove.prove_alone

    def last_loses(*given: Any, live_only: bool = False, **more: Any) -> Proof:
        if live_only:
            return real(*given, live_only=True, **more)
        return Proof(host="h", profile="tps", settings=2, metrics=(), kept=False, why="no difference")

    monkeypatch.setattr(playbook_run, "prove_alone", last_loses)
    tuner, found = run(tmp_path, monkeypatch)
    assert found.final is not None
    assert not found.final.kept
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES
    assert not tuner.journal.applied()


def test_a_failure_of_one_hypothesis_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure() -> dict[str, float]:
        if (tmp_path / "proc/sys/vm/page-cluster").read_text() == "5\n":
            raise MeasureFailed("the command exited 1: no")
        return {"n": number_of(tmp_path)}

    _, found = run(tmp_path, monkeypatch, measure=measure)
    by_name = {step.name: step for step in found.steps}
    assert (by_name["dear"].outcome, by_name["cheap"].outcome) == ("failed", "kept")
    assert by_name["dear"].why == "with the profile: the command exited 1: no"


def test_a_host_that_cannot_be_measured_as_it_is_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure() -> dict[str, float]:
        raise MeasureFailed("the command exited 1: no")

    with pytest.raises(BaselineFailed, match="without the profile: the command exited 1"):
        run(tmp_path, monkeypatch, measure=measure)
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


@pytest.mark.parametrize("runs", [0, 1, 5, 20, 40, 60])
def test_whatever_stops_it_the_host_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int) -> None:
    left = [runs]

    def measure() -> dict[str, float]:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return {"n": number_of(tmp_path)}

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, monkeypatch, measure=measure)
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


def test_a_host_that_is_tuned_already_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, FILES, ["etc/sysctl.d"])
    session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 20}}).apply()
    with pytest.raises(UsageError, match="run `tuneagent undo` first"):
        run(tmp_path, monkeypatch)


def test_a_result_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = run(tmp_path, monkeypatch)
    text = result_text(msgspec.json.decode(msgspec.json.encode(found), type=PlaybookResult), 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.startswith("KEPT, all winners together: n is better with it")
    assert "  skipped rival: down, which is kept, sets the same" in text.splitlines()


def test_results_that_are_shipped_are_documents_of_shipped_playbooks() -> None:
    paths = sorted((Path(__file__).parents[2] / "playbooks/results").glob("*.jsonl"))
    assert paths
    for path in paths:
        for line in path.read_text().splitlines():
            found = msgspec.json.decode(line, type=PlaybookResult, strict=True)
            assert_keeps_to_its_schema(found)
            assert found.playbook == path.stem
            known = [one.name for one in read_playbook(path.stem, registry()).spec.hypotheses]
            assert [step.name for step in found.steps] == known


def test_what_does_not_go_back_ends_the_run_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(self: HostTuner, keys: Any = None, *, force: bool = False) -> list[Undone]:
        return [Undone(tunable="sysctl", subject=subject, result="failed", reason="EPERM") for _, subject in keys]

    monkeypatch.setattr(HostTuner, "undo", stuck)
    with pytest.raises(NotUndone, match=r"vm\.swappiness was not undone: EPERM; run `tuneagent status`"):
        run(tmp_path, monkeypatch)


def test_a_failure_in_the_end_loses_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = prove.prove_alone

    def last_fails(*given: Any, live_only: bool = False, **more: Any) -> Proof:
        if live_only:
            return real(*given, live_only=True, **more)
        raise MeasureFailed("with the profile: the command exited 1: no")

    monkeypatch.setattr(playbook_run, "prove_alone", last_fails)
    _, found = run(tmp_path, monkeypatch)
    assert len(found.steps) == 6
    assert found.final is None
    assert found.left_out[-1].why == "with the profile: the command exited 1: no"
    assert result_text(found, 80).startswith("NOT KEPT, all winners together: with the profile:")
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES


def test_half_a_profile_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "not_applied", lambda outcomes, name_of: "vm.swappiness was not applied: EROFS")
    tuner, found = run(tmp_path, monkeypatch)
    assert {step.outcome for step in found.steps} == {"undone", "skipped"}
    assert "but vm.swappiness was not applied: EROFS" in found.steps[0].why
    assert {name: (tmp_path / name).read_text() for name in FILES} == FILES
    assert not tuner.journal.applied()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("x")
    link.symlink_to(victim)
    with pytest.raises(UsageError, match="is a link"):
        refuse_new_file(str(link), "--write", may_exist=True)
    for write in (lambda: write_output(str(link), b"y", is_new=False), lambda: append_output(str(link), b"y")):
        with pytest.raises(WriteFailed):
            write()
    with pytest.raises(WriteFailed):
        write_output(str(victim), b"y", is_new=True)
    assert victim.read_text() == "x"
    write_output(str(victim), b"y", is_new=False)
    append_output(str(victim), b"z")
    assert victim.read_text() == "yz"
