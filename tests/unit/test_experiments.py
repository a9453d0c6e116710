"""Experiments: what is read of a command, how sure a verdict is, and that the host ends where it began."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from large_tree import FILES
from support import Dies, DyingFiles, read_tree, session_of, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.contracts.proof import Better, MetricProof, Proof
from tuneagent.engine.host_tuner import EXPERIMENT_LOCK, STATE_FOLDER, HostTuner
from tuneagent.engine.names import namer
from tuneagent.errors import Locked, MeasureFailed, UsageError
from tuneagent.experiments import measuring
from tuneagent.experiments.judgement import LOOKS, Block, judge
from tuneagent.experiments.live_arms import LiveArms, live_plan
from tuneagent.experiments.metrics import Metric, checked
from tuneagent.experiments.trial import Limits, Progress, decide, run_trial
from tuneagent.host.files import Files
from tuneagent.host.measured import run_measured
from tuneagent.host.signals import any_stop_event
from tuneagent.report.proof import proof_text

SOAK = bool(os.environ.get("TUNEAGENT_SOAK"))
EXPERIMENTS = 10_000 if SOAK else 400


@pytest.mark.parametrize(
    ("metric", "output", "found"),
    [
        (r"tps (\d+)", "tps 3\nwarm-up done\ntps 40\n", 40), ("tps", "tps 3\ntps: 41.5 done\n", 41.5),
        (r"[\d.]+ ms", "took 12.5 ms\n", 12.5), (r"p99=([^ ]+)", "p99=1.5e-3s x", 1.5e-3),
        ("json:a.b", '{"a": {"b": 7}}', 7), ("json:runs.-1.tps", '{"runs": [{"tps": 1}, {"tps": 2}]}', 2),
        ("tps", "tps: 12.5ms\n", 12.5), (r"x: (\S+)", "\x1b[1mx: \x1b[32m5\x1b[0m\n", 5),
        ("json:tps", 'starting\n{"tps": 1}\n{"tps": 5}\n', 5), ("file:/out", "", 9), (r"tps (?:is )?(\d+)", "tps is 4", 4),
    ],
)  # fmt: skip
def test_the_number_of_a_run(metric: str, output: str, found: float) -> None:
    assert Metric(checked(metric), "higher").of(output, lambda _: "8\n9\n") == found


@pytest.mark.parametrize(
    ("metric", "output", "told"),
    [
        ("tps", "hello\n", "nothing matches in the output: 'hello'"), ("tps", "", "it is empty"),
        ("tps", "tps -3", "-3 is not a number above 0"), ("tps", "tps 0", "0 is not a number above 0"),
        (r"tps (\S+)", "tps nan", "'nan' is not a number"), ("tps", "tps 1e999", "inf is not a number above 0"),
        (r"tps (\S+)", "tps 1,234.5", "'1,234.5' is not a number"), ("tps", "tps 1,100", "'1,100' is not a number"), ("tps", "tps 1_000", "'1_000' is"),
        (r"x (.*)", "x 5 of 8", "'5 of 8' is not a number"), ("eth0.*", "eth0: 100 err2", "several numbers"), (r"x (\S+)", "x 0x10", "'0x10' is"),
        ("json:a", "x", "is not JSON"), ("json:a", "{}", "no 'a'"), ("json:a", '{"a": "1"}', "is not a number"),
        ("json:a", '{"a": true}', "is not a number"), ("json:a", '{"a": NaN}', "nan is not a number above 0"),
        ("tps", "tps none", "no number in or behind 'tps'"), ("file:/out", "", "/out: 'none' is not a number"),
    ],
)  # fmt: skip
def test_a_run_without_a_number_is_told(metric: str, output: str, told: str) -> None:
    with pytest.raises(MeasureFailed) as raised:
        Metric(checked(metric), "higher").of(output, lambda _: "none")
    assert told in str(raised.value)


@pytest.mark.parametrize("metric", ["(", "[[", "(a)(b)", "json:", "file:"])
def test_a_metric_that_cannot_be_used_is_refused(metric: str) -> None:
    with pytest.raises(UsageError):
        checked(metric)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_output_and_no_expression_does_more_than_fail(metric: str, output: str) -> None:
    with contextlib.suppress(MeasureFailed, UsageError):
        assert Metric(checked(metric), "higher").of(output, lambda _: output) > 0


def played(dice: random.Random, effect: float, noise: float, drift: float = 0.0) -> Iterator[Block]:
    """Blocks of a command whose runs differ by `noise` (standard deviation of the logarithm) and drift."""
    time = itertools.count()

    def run(arm: str) -> float:
        true = math.log(100) + (math.log(effect) if arm == "B" else 0) + drift * next(time)
        return math.exp(true + dice.gauss(0, noise))

    while True:
        seen: dict[str, list[float]] = {"A": [], "B": []}
        for arm in dice.choice(("ABBA", "BAAB")):
            seen[arm].append(run(arm))
        yield Block((seen["A"][0], seen["A"][1]), (seen["B"][0], seen["B"][1]))


def settled(blocks: Iterator[Block], better: Better = "higher", metrics: int = 1) -> tuple[str, int, bool]:
    """Verdict, number of blocks, and whether the last interval holds the truth 1 (for experiments without an effect)."""
    found: list[Block] = []
    for look in LOOKS:
        found += itertools.islice(blocks, look - len(found))
        judged = judge(found, better, metrics, 0.02)
        if judged.verdict is not None:
            break
    return judged.verdict or "too noisy", len(found), judged.low <= 1 <= judged.high


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_without_an_effect_a_difference_is_told_as_seldom_as_promised(drift: float) -> None:
    """Over all looks together at most 2 % of experiments, and no more because a machine slows down steadily."""
    dice = random.Random(1)
    told = [settled(played(dice, 1.0, 0.05, drift)) for _ in range(EXPERIMENTS)]
    wrong = sum(1 for verdict, _, _ in told if verdict in ("better", "worse"))
    assert wrong <= 0.02 * EXPERIMENTS + 3 * math.sqrt(0.02 * EXPERIMENTS)
    assert sum(1 for _, _, holds in told if holds) >= 0.98 * EXPERIMENTS - 3 * math.sqrt(0.02 * EXPERIMENTS)


@pytest.mark.parametrize(("effect", "better", "verdict"), [(1.05, "higher", "better"), (1.05, "lower", "worse")])
def test_five_percent_under_ten_percent_of_noise_is_found(effect: float, better: Better, verdict: str) -> None:
    dice = random.Random(2)
    count = EXPERIMENTS // 4
    told = [settled(played(dice, effect, 0.1), better)[0] for _ in range(count)]
    other = "worse" if verdict == "better" else "better"
    # Four runs of 10 % each give 10 % a block, the 128 blocks of the longest trial 0.9 %.
    assert told.count(verdict) >= 0.95 * count and told.count(other) == 0


def test_numbers_of_few_digits_are_no_proof() -> None:
    """Equal blocks by chance, as of a command that says 100 or 200 whatever is set."""
    dice = random.Random(4)

    def coins() -> Iterator[Block]:
        while True:
            yield Block(*[(dice.choice((100.0, 200.0)), dice.choice((100.0, 200.0))) for _ in range(2)])

    told = [settled(coins())[0] for _ in range(EXPERIMENTS)]
    assert sum(1 for one in told if one in ("better", "worse")) <= 0.02 * EXPERIMENTS + 3 * math.sqrt(
        0.02 * EXPERIMENTS
    )
    assert judge([Block((1e-100, 1e100), (1e100, 1e100))] * 4, "higher", 1, 0.02).verdict is None


def test_how_many_more_runs_are_needed_is_foretold() -> None:
    """After eight blocks, the number that is foretold is about the one that is needed."""
    dice = random.Random(3)
    ratios = []
    for _ in range(EXPERIMENTS // 4):
        blocks = played(dice, 1.05, 0.05)
        first = list(itertools.islice(blocks, 8))
        more = judge(first, "higher", 1, 0.02).more_runs
        if more is None:
            continue
        needed = settled(itertools.chain(first, blocks))[1]
        ratios.append((32 + more) / (4 * needed))
    ratios.sort()
    assert 0.3 < ratios[len(ratios) // 2] < 3


def test_a_command_without_noise_is_settled_at_the_first_look() -> None:
    exact = [Block((40.0, 40.0), (90.0, 90.0))] * LOOKS[0]
    judged = judge(exact, "higher", 1, 0.02)
    assert (judged.verdict, judged.ratio, judged.low, judged.high, judged.noise) == (
        "better", pytest.approx(2.25), pytest.approx(2.25), pytest.approx(2.25), 0,
    )  # fmt: skip
    assert judge([Block((40.0, 40.0), (40.0, 40.0))] * 4, "higher", 1, 0.02).verdict == "no difference"
    # Certain, and too small to matter.
    assert judge([Block((100.0, 100.0), (101.0, 101.0))] * 4, "higher", 1, 0.02).verdict == "no difference"


class PlayedArms:
    def __init__(self) -> None:
        self.arm, self.switches = "A", 0

    def switch(self, arm: str) -> None:
        self.switches += arm != self.arm
        self.arm = arm

    def verify(self, arm: str) -> None:
        assert arm == self.arm


def trial(measure: Callable[[str], dict[str, float]], *names: str, time_s: float = 1000.0) -> list[MetricProof]:
    arms, ticks = PlayedArms(), itertools.count(step=1.0)
    metrics = [Metric(name, "higher") for name in names or ("m",)]
    told: list[Progress] = []
    try:
        return run_trial(
            arms, lambda: measure(arms.arm), metrics, Limits(time_s, 0.02), clock=lambda: float(next(ticks)),
            choose=random.Random(5), tell=told.append,
        )  # fmt: skip
    finally:
        assert arms.arm == "A"
        assert [one.blocks for one in told] == list(range(1, len(told) + 1))


def test_a_trial_ends_when_every_metric_is_settled() -> None:
    dice = random.Random(7)
    found = trial(lambda arm: {"m": 90.0 if arm == "B" else 40.0, "n": 100 * math.exp(dice.gauss(0, 0.02))}, "m", "n")
    assert [one.verdict for one in found] == ["better", "no difference"]
    assert found[0].runs == found[1].runs and 4 * LOOKS[0] <= found[0].runs <= 4 * LOOKS[-1]
    assert (found[0].baseline, found[0].tuned, found[0].ratio) == (40, 90, pytest.approx(2.25))


def test_a_trial_that_is_too_noisy_says_how_many_more_runs_it_would_take() -> None:
    dice = random.Random(8)
    (found,) = trial(lambda _: {"m": 100 * math.exp(dice.gauss(0, 1.0))}, time_s=1)
    # However short the time is, a verdict takes as many blocks as its first look.
    assert found.runs == 4 * LOOKS[0]
    assert found.verdict == "too noisy" and found.more_runs is not None and found.more_runs > 100
    assert "no experiment is long enough" in decide([found])[1]
    assert decide([found])[0] is False and "too noisy to tell" in decide([found])[1]


@pytest.mark.parametrize("arm", ["A", "B"])
@pytest.mark.parametrize("error", [MeasureFailed("no number"), KeyboardInterrupt(), RuntimeError("x")])
def test_whatever_ends_a_trial_the_host_is_as_it_was(arm: str, error: BaseException) -> None:
    runs = itertools.count()

    def measure(now: str) -> dict[str, float]:
        if next(runs) > 4 and now == arm:
            raise error
        return {"m": 1.0}

    with pytest.raises(type(error)) as raised:
        trial(measure)
    if isinstance(error, MeasureFailed):
        assert str(raised.value) == f"{'with' if arm == 'B' else 'without'} the profile: no number"


def proof_of(name: str, verdict: Any) -> MetricProof:
    return MetricProof(name=name, better="higher", baseline=1, tuned=1, ratio=1, low=1, high=1, noise=0, runs=8, more_runs=9,
                       verdict=verdict)  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "kept", "why"),
    [
        (["better"], True, "a is better with it, nothing is worse"), (["better", "no difference"], True, "a is better"),
        (["better", "too noisy"], True, "a is better"), (["better", "worse"], False, "b is worse with it"),
        (["worse", "worse"], False, "a, b are worse with it"), (["no difference"], False, "no difference"),
        (["too noisy", "no difference"], False, "a: too noisy to tell; about 9 more runs"),
    ],
)  # fmt: skip
def test_what_is_kept(verdicts: list[str], kept: bool, why: str) -> None:
    found = decide([proof_of(name, verdict) for name, verdict in zip("ab", verdicts, strict=False)])
    assert found[0] is kept and why in found[1]


TUNE = {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}, "transparentHugepages": {"defrag": "never"}}


def arms_of(tuner: HostTuner) -> LiveArms:
    name_of = namer(tuner.registry)
    return LiveArms(tuner, live_plan(tuner, (), name_of), (), name_of)


def without_state(root: Path) -> dict[str, Any]:
    return {name: text for name, text in read_tree(root).items() if not name.startswith(STATE_FOLDER)}


def test_an_arm_writes_running_values_alone_and_goes_back(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    before = without_state(tmp_path)
    tuner = session_of(tree(Files(str(tmp_path))), TUNE)
    arms = arms_of(tuner)
    assert len(arms.changes) == 3
    for _ in range(2):
        arms.switch("B")
        arms.verify("B")
        moved = {name for name, text in without_state(tmp_path).items() if before.get(name) != text}
        assert moved == {
            "proc/sys/vm/swappiness", "proc/sys/vm/stat_interval", "sys/kernel/mm/transparent_hugepage/defrag",
        }  # fmt: skip
        arms.switch("A")
        arms.verify("A")
        assert without_state(tmp_path) == before and not tuner.journal.applied()


@pytest.mark.parametrize("arm", ["A", "B"])
def test_a_command_that_changes_a_setting_itself_is_told_and_taken_back(arm: str, tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    before = without_state(tmp_path)
    arms = arms_of(session_of(tree(Files(str(tmp_path))), TUNE))
    arms.switch(arm)
    (tmp_path / "proc/sys/vm/swappiness").write_text("33\n")
    with pytest.raises(
        MeasureFailed, match=r"vm\.swappiness was changed while the command ran, by it or by someone else"
    ):
        arms.verify(arm)
    arms.switch("A")
    assert without_state(tmp_path) == before


def test_a_death_in_any_step_of_an_arm_is_undone(tmp_path: Path) -> None:
    """As after kill -9: `tuneagent undo` goes back to what was before the trial."""
    counted = tmp_path / "counted"
    write_tree(counted, FILES, ["etc/tmpfiles.d"])
    files = DyingFiles(str(counted), 0, after=False)
    arms_of(session_of(tree(files), TUNE)).switch("B")
    for step in range(1, files.steps + 1):
        for after in (False, True):
            root = tmp_path / f"{step}-{after}"
            write_tree(root, FILES, ["etc/tmpfiles.d"])
            before = without_state(root)
            with pytest.raises(Dies):
                arms_of(session_of(tree(DyingFiles(str(root), step, after=after)), TUNE)).switch("B")
            again = session_of(tree(Files(str(root))), TUNE)
            again.undo()
            assert without_state(root) == before and not again.journal.applied()


def test_what_cannot_be_switched_while_the_host_works_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, {**FILES, "sys/devices/system/cpu/smt/control": "on\n"}, ["etc/tmpfiles.d"])
    tuner = session_of(tree(Files(str(tmp_path))), {**TUNE, "smt": {"enabled": False}})
    with pytest.raises(UsageError, match="1 of 4 changes cannot be switched while the host works"):
        live_plan(tuner, (), namer(tuner.registry))
    assert len(live_plan(tuner, ("sysctl",), namer(tuner.registry)).changes) == 2


def test_a_profile_that_was_applied_and_has_drifted_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    tuner = session_of(tree(Files(str(tmp_path))), TUNE)
    tuner.apply()
    with pytest.raises(UsageError, match="and it is what this one wants"):
        live_plan(tuner, (), namer(tuner.registry))
    (tmp_path / "proc/sys/vm/swappiness").write_text("33\n")
    with pytest.raises(UsageError, match="is applied on this host, or an experiment was interrupted"):
        live_plan(tuner, (), namer(tuner.registry))


RUNS = ["prove", "-p", "generic", "--command", "true", "--metric", "x"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--root", "/", *RUNS, "--yes"], 2, "prove works on this machine only"),
        ([*RUNS, "--metric", "x", "--yes"], 2, "--metric: the same one is given twice"),
        ([*RUNS, "--metric", "y", "--better", "lower", "--better", "higher", "--better", "lower"], 2, "once for each of the 2 metrics"),
        ([*RUNS, "--metric", "(", "--yes"], 2, "not a regular expression"),
        ([*RUNS, "--for", "soon"], 2, "a time such as 90s"),
        ([*RUNS, "--margin", "0"], 2, "0.1<=x<=50"),
        ([*RUNS, "--margin", "nan"], 2, "--margin: not a number"),
        (["prove", *RUNS[3:], "--yes"], 2, "give -f FILE or -p NAME"),
        (RUNS, 2, "nothing was written; use --yes to begin"),
        (RUNS[:5], 2, "--command and --metric belong together"),
    ],
)  # fmt: skip
def test_wrong_use(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), *arguments])
    assert done.exit_code == code and told in done.output, done.output


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    done = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), *RUNS, "--yes"])
    assert done.exit_code == 2 and "pip install 'tuneagent[prove]'" in done.output


def test_the_words_of_a_result() -> None:
    proof = Proof(
        host="node\x1b7", profile="p", settings=1, metrics=(proof_of("tps", "better"), proof_of("ms", "too noisy")),
        kept=True, why="tps is better with it",
    )  # fmt: skip
    assert proof_text(proof) == (
        "KEPT: tps is better with it.\nprofile p, 1 setting, host node?7\n\n"
        "tps (higher is better): better\n  without 1, with 1 (medians of 4 runs each)\n  ratio of the means 1, between 1 and 1\n"
        "  two runs of the same kind typically differ by 0 %\n  about 9 more runs would settle it\n\n"
        "ms (higher is better): too noisy\n  without 1, with 1 (medians of 4 runs each)\n  ratio of the means 1, between 1 and 1\n"
        "  two runs of the same kind typically differ by 0 %\n  about 9 more runs would settle it\n\n"
        "The profile is applied, also for the next boot. `tuneagent undo` goes back."
    )


@pytest.mark.parametrize(
    ("command", "limit_s", "code", "output"),
    [
        ("echo out; echo err >&2; exit 3", 20, 3, "out\nerr\n"),
        # A child of its own that keeps the output open does not hold us.
        ("sleep 60 & echo done", 20, 0, "done\n"),
        ("setsid sh -c 'sleep 61 & sleep 61' & echo done", 20, 0, "done\n"),
        ("yes | head -c 3000000", 60, 0, None),
    ],
)
def test_a_command_is_run_and_nothing_of_it_is_left(
    command: str, limit_s: float, code: int, output: str | None
) -> None:
    done = run_measured(command, limit_s, lambda: False)
    assert done.code == code
    assert done.output == output if output is not None else len(done.output) == 1024 * 1024
    assert not [one for one in psutil.Process().children(recursive=True) if "sleep" in one.name()]


@pytest.mark.parametrize("command", ["sleep 60", "sleep 60 & sleep 60", "trap '' TERM INT; sleep 60; sleep 60"])
def test_a_command_that_hangs_is_ended(command: str) -> None:
    with pytest.raises(MeasureFailed, match=r"still running after 0\.3 s"):
        run_measured(command, 0.3, lambda: False)
    with pytest.raises(KeyboardInterrupt):
        run_measured(command, 60, lambda: True)
    assert not [one for one in psutil.Process().children(recursive=True) if "sleep" in one.name()]


def test_nothing_else_writes_during_an_experiment(tmp_path: Path) -> None:
    write_tree(tmp_path, FILES, ["etc/tmpfiles.d"])
    tuner = session_of(tree(Files(str(tmp_path))), TUNE)
    tuner.state.make()
    with tuner.state.locked(EXPERIMENT_LOCK):
        with pytest.raises(Locked, match="`tuneagent prove` is running"):
            tuner.apply()
        own = msgspec.structs.replace(tuner, is_experiment=True, shared_journal=tuner.journal)
        own.apply()
        with pytest.raises(Locked, match="`tuneagent prove` is running"):
            tuner.undo()
        own.undo()
    assert tuner.apply().outcomes


def test_an_expression_that_tries_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_READ_LIMIT_S", 0.2)
    command = f"printf '%s' {'a' * 60}b"
    subject = measuring.Subject(command, [Metric("(a|aa)+$", "higher")], 10.0)
    with pytest.raises(MeasureFailed, match=r"metric \(a\|aa\)\+\$: no answer within 0.2 s"):
        measuring.measurer(subject, lambda: False)()
    # The timer is off again.
    time.sleep(0.3)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with any_stop_event() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(5)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
