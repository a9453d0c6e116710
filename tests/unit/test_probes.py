"""Probes: what a host is measured by, what is made of samples, and two times held against each other."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import msgspec
import pytest
from captured_hosts import HOSTS, tuner_of
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import assert_keeps_to_its_schema, tree, write_tree
from tuneagent.commands.main import cli
from tuneagent.contracts.measurement import Measurement, Series
from tuneagent.contracts.probe import CaseResult, ProbeReport, ProbeResult
from tuneagent.contracts.report import HostName
from tuneagent.errors import MeasureFailed, Unsupported, UsageError
from tuneagent.experiments import probing
from tuneagent.experiments.judgement import ERROR, judge_apart
from tuneagent.experiments.measuring import probed_cases
from tuneagent.experiments.metrics import Metric
from tuneagent.experiments.probes import PROBES, QUIET, Place, Probe
from tuneagent.experiments.records import kind_of, shipped_records, standings
from tuneagent.experiments.two_times import RUNS, compare, measured, read_measurement, refuse_strangers
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.host.kernels import Samples, read_samples
from tuneagent.report.probe import probes_text, report_text, standings_text
from tuneagent.report.proof import again_text

RESULTS = Path(__file__).parents[1] / "fixtures/probes"
NATIVE = Path(__file__).parents[2] / "native"
BY_NAME = {one.name: one for one in PROBES}


def facts_of(host: str, folder: Path) -> Facts:
    return Facts(tuner_of(HOSTS / host, folder, "training").host)


def two_nodes(folder: Path) -> Facts:
    """A host of two nodes with two CPUs each, CPU 3 isolated, and a third node without CPUs or much memory."""
    system = "sys/devices/system"
    files = {f"{system}/cpu/online": "0-3", f"{system}/cpu/possible": "0-3", f"{system}/cpu/isolated": "3"}
    files[f"{system}/node/online"] = "0-2"
    for node, cpus, kib in ((0, "0-1", 8 << 20), (1, "2-3", 8 << 20), (2, "", 1024)):
        files[f"{system}/node/node{node}/cpulist"] = cpus
        files[f"{system}/node/node{node}/meminfo"] = f"Node {node} MemTotal: {kib} kB\n"
        files[f"{system}/node/node{node}/distance"] = "10 20 30"
    write_tree(folder, {name: f"{text}\n" for name, text in files.items()})
    return Facts(tree(Files(str(folder))))


def cases_of(name: str, facts: Facts, cpus: frozenset[int] = frozenset(range(4))) -> list[str]:
    return [one.name for one in BY_NAME[name].cases(facts, Place(cpus, "/var/tmp"))]


def test_nodes_are_measured_from_each_to_each_that_has_memory(tmp_path: Path) -> None:
    facts = two_nodes(tmp_path)
    assert cases_of("memory-latency", facts) == [
        f"CPUs of node {one}, memory of node {other}" for one in (0, 1) for other in (0, 1)
    ]
    assert cases_of("memory-latency", facts, frozenset({2})) == [
        f"CPUs of node 1, memory of node {other}" for other in (0, 1)
    ]
    assert cases_of("jitter", facts) == ["CPU 0", "CPU 2", "CPU 3, isolated"]
    assert cases_of("loopback", facts) == ["two CPUs of node 0", "nodes 0 and 1"]
    with pytest.raises(Unsupported, match="two CPUs"):
        cases_of("loopback", facts, frozenset({2}))
    with pytest.raises(Unsupported, match="no NVIDIA GPU"):
        cases_of("gpu-copy", facts)


def test_each_gpu_is_measured_from_near_and_from_far(tmp_path: Path) -> None:
    facts = facts_of("h200x8-vm", tmp_path)
    every = facts.topology.online
    copies = BY_NAME["gpu-copy"].cases(facts, Place(every, "/"))
    gpus = len(facts.topology.pci_gpus or ())
    sides = 2 if len(facts.topology.nodes) > 1 else 1
    assert gpus == 8
    assert len(copies) == gpus * sides * 4
    assert len(BY_NAME["gpu-peer"].cases(facts, Place(every, "/"))) == gpus - 1


@pytest.mark.parametrize("host", ["h100-vm", "h200x8-vm", "h100x2-vm", "arm64-64k"])
def test_every_case_has_its_own_name_and_what_its_kernel_takes(host: str, tmp_path: Path) -> None:
    facts = facts_of(host, tmp_path)
    takes = {}
    for line in (NATIVE / "main.c").read_text().splitlines():
        if line.startswith('    {"'):
            name, count, _ = line.strip().lstrip("{").split(", ", 2)
            takes[name.strip('"')] = int(count)
    for probe in PROBES:
        try:
            cases = probe.cases(facts, Place(facts.topology.online, "/var/tmp"))
        except Unsupported:
            continue
        assert len({one.name for one in cases}) == len(cases) > 0
        assert {len(one.arguments) for one in cases} == {takes[probe.kernel]}
    assert {one.kernel for one in PROBES} == set(takes)
    assert set(QUIET) <= set(BY_NAME)


def test_what_a_kernel_printed() -> None:
    assert read_samples("sample 1.5\nsample 2e3\nvalue 7\n") == Samples((1.5, 2000.0), 7.0)
    for wrong in ("sample", "sample x", "sample 1 2"):
        with pytest.raises(MeasureFailed, match="is no sample"):
            read_samples(wrong)


@given(st.lists(st.floats(0.001, 1e9), min_size=1, max_size=50))
def test_a_distribution_is_in_order_and_made_of_its_samples(values: list[float]) -> None:
    found = probing.distribution_of(values)
    assert found is not None
    told = [found.least, found.p50, found.p90, found.p99, found.p999, found.most]
    assert told == sorted(told)
    assert set(told) <= set(values)
    assert (found.least, found.most, found.samples) == (min(values), max(values), len(values))


def test_what_counts_of_a_repeat() -> None:
    samples = Samples(tuple(float(one) for one in range(1, 1001)), 0.0)
    assert probing.statistic(BY_NAME["jitter"], samples) == 1.0
    assert probing.statistic(BY_NAME["gpu-launch"], samples) == 999.0
    assert probing.statistic(BY_NAME["clock"], samples) == 500.0
    with pytest.raises(MeasureFailed):
        probing.statistic(BY_NAME["clock"], Samples(()))
    with pytest.raises(MeasureFailed):
        probing.statistic(BY_NAME["jitter"], Samples(()))


def test_one_case_that_cannot_be_measured_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((2.0, 4.0, 5.0, 4.0))

    def kernel(name: str, arguments: tuple[str, ...], timeout_s: float) -> Samples:
        if arguments[0] == "0":
            raise Unsupported("not here")
        if arguments[0] == "2":
            raise MeasureFailed("broken")
        return Samples((next(answers),), 100.0)

    monkeypatch.setattr(probing, "run_kernel", kernel)
    time = iter(range(0, 1000, 30))
    found = probing.run_probe(
        BY_NAME["jitter"], two_nodes(tmp_path), Place(frozenset(range(4)), "/"),
        clock=lambda: next(time), tell=lambda _: None,
    )  # fmt: skip
    assert [(one.outcome, one.reason) for one in found.cases] == [
        ("unsupported", "not here"), ("failed", "broken"), ("measured", ""),
    ]  # fmt: skip
    # The first run warms up; then the time was up, and two were made in any case.
    assert (found.cases[2].repeats, found.cases[2].value) == (2, 100.0)
    assert found.outcome == "measured"


def test_probes_of_an_experiment_are_those_that_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(name: str, arguments: tuple[str, ...], timeout_s: float) -> Samples:
        if "hugetlb" in arguments:
            raise Unsupported("no pool")
        return Samples((1.0,), 1.0)

    monkeypatch.setattr(probing, "run_kernel", kernel)
    facts, place = two_nodes(tmp_path), Place(frozenset(range(4)), "/")
    found = probed_cases(["touch", "clock", "clock"], facts, place)
    assert [one.metric.name for one in found] == [
        *(f"touch: node {node}, {kind}" for node in (0, 1) for kind in ("base pages", "transparent huge pages")),
        "clock: CPU 0",
    ]
    (one,) = probed_cases(["touch:node 1, base pages"], facts, place)
    assert one.metric == Metric("touch: node 1, base pages", "higher")
    for name, told in (
        ("tuoch", "did you mean 'touch'"), ("touch:node 9", "no case 'node 9'; it has node 0, base pages;"),
        ("gpu-feed", "no NVIDIA GPU"), ("touch:node 0, huge pages of the pool", "no pool"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            probed_cases([name], facts, place)


def apart(dice: random.Random, effect: float, noise: float) -> tuple[list[float], list[float]]:
    before = [100 * math.exp(dice.gauss(0, noise)) for _ in range(RUNS)]
    return before, [100 * effect * math.exp(dice.gauss(0, noise)) for _ in range(RUNS)]


def test_two_times_without_a_difference_are_rarely_told_apart() -> None:
    dice = random.Random(7)
    experiments = 2000
    told = [judge_apart(*apart(dice, 1.0, 0.1), "higher", 1, 0.02) for _ in range(experiments)]
    false = sum(one.verdict in ("better", "worse") for one in told)
    held = sum(one.low <= 1 <= one.high for one in told)
    # Three standard deviations above the stated rate.
    allowed = experiments * ERROR + 3 * math.sqrt(experiments * ERROR)
    assert false <= allowed
    assert experiments - held <= allowed


def test_a_large_difference_between_two_times_is_found_in_its_direction() -> None:
    dice = random.Random(8)
    for better, verdict in (("higher", "worse"), ("lower", "better")):
        found = [judge_apart(*apart(dice, 0.7, 0.1), better, 1, 0.02).verdict for _ in range(50)]  # type: ignore[arg-type]
        assert found.count(verdict) >= 48  # type: ignore[arg-type]
    assert judge_apart([5.0] * 4, [5.0] * 4, "higher", 1, 0.02).verdict == "no difference"
    assert judge_apart([5.0] * 4, [6.0] * 4, "higher", 1, 0.02).verdict == "better"
    assert judge_apart(*apart(dice, 1.0, 0.001), "higher", 1, 0.02).verdict == "no difference"


def measurement(**values: tuple[float, ...]) -> Measurement:
    metrics = tuple(Series(name=name, better="lower", values=given) for name, given in values.items())
    return Measurement(host=HostName(name="old"), taken=0.0, command="", metrics=metrics)


def test_a_host_against_its_earlier_self() -> None:
    before = read_measurement(msgspec.json.encode(measurement(a=(5.0,) * 4, gone=(1.0,) * 4)), "x.json")
    now = (Series(name="a", better="lower", values=(7.0,) * 4), Series(name="new", better="lower", values=(1.0,) * 4))
    found = compare(before, HostName(name="now"), now, 0.02)
    assert_keeps_to_its_schema(found)
    assert [(one.name, one.verdict, one.ratio) for one in found.metrics] == [("a", "worse", pytest.approx(1.4))]
    assert found.missing == ("gone", "new")
    assert again_text(found).splitlines()[:2] == ["WORSE: a.", "host now, against old of 1970-01-01 00:00:00Z"]
    refuse_strangers(before, "", [Metric("a", "lower")])
    for command, wanted, told in (
        ("", Metric("b", "lower"), "the file holds a; gone, and you ask for b"),
        ("true", Metric("a", "lower"), "measured with another command: none"),
        ("", Metric("a", "higher"), "--better: the file says lower of a"),
    ):
        with pytest.raises(UsageError, match=told):
            refuse_strangers(before, command, [wanted])


def test_what_is_too_noisy_is_not_called_fine() -> None:
    before = measurement(a=(5.0, 6.0, 5.0, 7.0))
    found = compare(
        before, HostName(name="now", cpus=2), (Series(name="a", better="lower", values=(5.0, 6.0, 7.0, 5.0)),), 0.02
    )
    lines = again_text(found).splitlines()
    assert lines[0] == "TOO NOISY TO TELL: a."
    assert lines[2] == "not the same kind of machine: 2 CPUs now, None then"
    same = compare(measurement(a=(5.0,) * 4), HostName(), (Series(name="a", better="lower", values=(5.0,) * 5),), 0.02)
    assert again_text(same).startswith("NO DIFFERENCE.")
    assert "(medians of 9 runs in all)" in again_text(same)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"\xff", json.dumps({"schema": "tuneagent.dev/report/v1"}).encode(),
        msgspec.json.encode(msgspec.structs.replace(measurement(a=(1.0,) * 4), schema="x")),
        msgspec.json.encode(measurement()), msgspec.json.encode(measurement(a=(1e308,) * 4)),
        msgspec.json.encode(measurement(a=(1.0, 2.0))), msgspec.json.encode(measurement(a=(1.0, 2.0, 0.0, 3.0))),
    ],
)  # fmt: skip
def test_what_is_no_measurement_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"x\.json"):
        read_measurement(data, "x.json")


def test_a_series_ends_when_there_are_enough_or_the_time_is_up() -> None:
    runs = [0]

    def measure() -> dict[str, float]:
        runs[0] += 1
        return {"a": float(runs[0])}

    told: list[int] = []
    waited: list[float] = []
    (series,) = measured(measure, [Metric("a", "lower")], 100, clock=lambda: 0.0, wait=waited.append, tell=told.append)
    # The first run warms up.
    assert series.values == tuple(float(one) for one in range(2, RUNS + 2))
    assert told == list(range(1, RUNS + 1))
    # One within a second says little about the next: they are spread over the time that there is.
    assert waited == [4.0 * number for number in range(1, RUNS + 1)]
    time = iter(range(0, 10_000, 120))
    (series,) = measured(
        measure, [Metric("a", "lower")], 100, clock=lambda: next(time), wait=waited.append, tell=told.append
    )
    assert len(series.values) == 4


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "say what to measure"), (["--probe", "clock"], "give -f FILE or -p NAME"),
        (["--command", "true"], "--command and --metric belong together"),
        (["--metric", "x"], "there is no command"), (["--probe", "clock", "--state", "x"], "--state belongs to --once"),
        (["--probe", "clock", "--once", "before"], "--once before needs --state FILE"),
        (["--probe", "clock", "--once", "after", "--state", "x", "--against", "y"], "cannot be used together"),
        (["--probe", "clock", "--against", "y", "-p", "generic"], "leave out -f and -p"),
    ],
)  # fmt: skip
def test_wrong_use_of_prove_is_told(argv: list[str], told: str) -> None:
    done = CliRunner().invoke(cli, ["prove", *argv])
    assert done.exit_code == 2
    assert told in done.output


def test_results_of_real_gpus_are_shown_in_80_columns() -> None:
    for path in sorted(RESULTS.glob("*.json")):
        report = msgspec.json.decode(path.read_bytes(), type=ProbeReport)
        assert_keeps_to_its_schema(report)
        text = report_text(report, 80)
        assert all(len(line) <= 80 for line in text.splitlines()), max(text.splitlines(), key=len)
        for one in report.probes:
            assert f"{one.name}: " in text
    assert all(len(line) <= 80 for line in probes_text(PROBES, 80).splitlines())


def test_probe_takes_no_other_host() -> None:
    for argv in (["--root", "/", "probe", "run", "clock"], ["probe", "run"], ["probe", "run", "clokc"]):
        assert CliRunner().invoke(cli, argv).exit_code == 2


def test_a_probe_says_what_it_is(tmp_path: Path) -> None:
    probe: Probe
    for probe in PROBES:
        assert probe.title
        assert probe.does
        assert probe.statistic == "sum" or probe.statistic.startswith("p")


def recorded(name: str, **values: float) -> ProbeReport:
    """A host with one case of each kind."""
    cases = {"wakeup": "CPU 3, any idle state", "touch": "node 1, base pages", "clock": "CPU 0"}
    probes = tuple(
        ProbeResult(
            name=probe, title="t", unit="u", sample_unit="u", better="higher" if probe == "touch" else "lower", statistic="p50",
            outcome="measured", cases=(CaseResult(name=cases[probe], outcome="measured", value=value),),
        )
        for probe, value in values.items()
    )  # fmt: skip
    return ProbeReport(host=HostName(name=name, arch="x86_64", cpus=2), processor=None, probes=probes)


def test_where_a_host_stands_beside_recorded_ones() -> None:
    here = recorded("here", wakeup=10.0, touch=4.0, clock=20.0)
    other = msgspec.structs.replace(recorded("arm", wakeup=1.0), host=HostName(name="arm", arch="aarch64"))
    found = standings(here, [recorded("a", wakeup=20.0, touch=8.0), recorded("b", wakeup=10.2), other])
    assert [(one.name, one.here, one.there, one.beaten) for one in found] == [
        ("wakeup, any idle state", 10.0, (("a", 20.0), ("b", 10.2)), 2), ("touch, base pages", 4.0, (("a", 8.0),), 0),
    ]  # fmt: skip
    lines = standings_text(here, found, 200).splitlines()
    assert lines[1] == "beside a, b"
    assert lines[2].split("  ")[-1].strip() == "2.00x better than a, as b"
    assert lines[3].split("  ")[-1].strip() == "2.00x worse than a"
    assert "no recorded host of its architecture" in standings_text(here, standings(here, [other]), 80)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("CPU 3, isolated, no idle state", "no idle state"), ("node 0, base pages", "base pages"), ("CPU 17", ""),
        ("CPUs of node 0, memory of node 1", "memory of another node"), ("CPUs of node 1, memory of node 1", "memory of its own node"),
        ("two CPUs of node 0", "within a node"), ("nodes 0 and 1", "between nodes"),
    ],
)  # fmt: skip
def test_the_kind_of_a_case(case: str, kind: str) -> None:
    assert kind_of(case) == kind


def test_records_that_are_shipped_name_no_device() -> None:
    records = shipped_records()
    assert records
    for one in records:
        assert_keeps_to_its_schema(one)
        assert one.host.boot_id is None
        assert all(set(gpu.uuid) <= set("GPU-0") for gpu in one.host.gpus or ())
        assert {probe.name for probe in one.probes} >= set(QUIET)


def test_numbers_of_few_digits_are_no_more_certain_than_their_last_one() -> None:
    found = judge_apart([10.0] * 4, [11.0] * 4, "higher", 1, 0.02)
    assert found.low < 1.05 < 1.15 < found.high + 0.02
    assert judge_apart([40.0] * 16, [90.0] * 16, "higher", 1, 0.02).verdict == "better"


def test_isolated_cpus_come_before_the_cut(tmp_path: Path) -> None:
    system = "sys/devices/system"
    files = {f"{system}/cpu/online": "0-63", f"{system}/cpu/possible": "0-63", f"{system}/cpu/isolated": "60-63"}
    files[f"{system}/node/online"] = "0-15"
    for node in range(16):
        files[f"{system}/node/node{node}/cpulist"] = f"{4 * node}-{4 * node + 3}"
        files[f"{system}/node/node{node}/meminfo"] = f"Node {node} MemTotal: {8 << 20} kB\n"
    write_tree(tmp_path, {name: f"{text}\n" for name, text in files.items()})
    names = cases_of("jitter", Facts(tree(Files(str(tmp_path)))), frozenset(range(64)))
    assert names[-4:] == [f"CPU {cpu}, isolated" for cpu in range(60, 64)]
    assert len(names) == 8


def test_a_probe_of_many_cases_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "run_kernel", lambda name, arguments, timeout_s: Samples((1.0,), 1.0))
    ticks = iter(range(0, 10**6, 50))
    found = probing.run_probe(
        BY_NAME["memory-latency"], two_nodes(tmp_path), Place(frozenset(range(4)), "/"),
        clock=lambda: next(ticks), tell=lambda _: None,
    )  # fmt: skip
    assert found.cases[0].outcome == "measured"
    assert found.cases[-1].reason.startswith("not measured: 4 cases take more than 180 s")
