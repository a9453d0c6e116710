"""Goodput: what readings of a counter mean, what is read of a job, and where the time went."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import assert_keeps_to_its_schema, tree
from tuneagent.commands.main import cli
from tuneagent.contracts.goodput import Goodput
from tuneagent.errors import MeasureFailed, UsageError
from tuneagent.experiments.counters import Counter, counter_of, counter_of_log, of_metrics
from tuneagent.experiments.goodput import Asked, _at_least, goodput_of
from tuneagent.experiments.goodput_account import Account, Reading, account, added_up
from tuneagent.experiments.goodput_losses import GpuTally, host_losses, job_losses
from tuneagent.gpu.samples import GpuSample
from tuneagent.host.files import Files
from tuneagent.host.job_counters import HostCounters, ProcessCounters, _interrupts
from tuneagent.report.goodput import goodput_text


def told(
    tmp_path: Path, done: Account, wall_s: float, peak: float | None = None, joules: float | None = None
) -> Goodput:
    host = tree(Files(str(tmp_path)))
    return goodput_of(host, "job", 0, wall_s, Asked(None, "tokens", peak=peak, dollars_per_hour=36.0), done, joules, [])


@pytest.mark.parametrize(
    ("units", "wall_s", "peak", "per_second", "efficiency"),
    [(100_000, 10.0, 12_000.0, 10_000.0, 10 / 12), (300, 1.0, 1000.0, 300.0, 0.3)],
)
def test_the_vectors_of_the_book(
    tmp_path: Path, units: float, wall_s: float, peak: float, per_second: float, efficiency: float
) -> None:
    found = told(tmp_path, account([Reading(wall_s, units)], wall_s), wall_s, peak, joules=50.0)
    assert_keeps_to_its_schema(found)
    assert found.per_second == pytest.approx(per_second)
    assert found.efficiency == pytest.approx(efficiency)
    assert found.units_per_joule == pytest.approx(units / 50)
    assert found.units_per_dollar == pytest.approx(units / (wall_s / 100))
    if units == 100_000:
        assert "83.3 % of the possible 12000 each second" in goodput_text(found, 80).splitlines()


# The timelines of ml-goodput-measurement's tests, with seconds of our own: it counts a step from its start, we at its
# end.
START_UP, STEP, STEPS, BREAK = 5.0, 3.0, 5, 30.0


def steps(began: float, first: int, last: int, slow: dict[int, float] | None = None) -> list[Reading]:
    """Ends of steps from one to another; some take longer."""
    found, at = [], began
    for step in range(first, last + 1):
        at += STEP + (slow or {}).get(step, 0.0)
        found.append(Reading(at, step))
    return found


def test_start_up_is_not_productive() -> None:
    wall = START_UP + STEPS * STEP
    found = account([Reading(START_UP, 0), *steps(START_UP, 1, STEPS)], wall)
    assert found == Account(STEPS, 0, 0.0, START_UP + STEP, STEPS * STEP)


def test_a_complete_restart_loses_everything_before_it() -> None:
    again = START_UP + STEPS * STEP + BREAK + START_UP
    readings = [*steps(START_UP, 1, STEPS), Reading(again, 0), *steps(again, 1, STEPS - 2)]
    found = account(readings, readings[-1].at_s)
    assert (found.units, found.restarts, found.lost) == (STEPS - 2, 1, STEPS)
    assert found.productive_s == pytest.approx((STEPS - 2) * STEP)


def test_a_partial_restart_counts_each_step_once() -> None:
    again = START_UP + STEPS * STEP + BREAK + START_UP
    readings = [*steps(START_UP, 1, STEPS), *steps(again, 3, STEPS)]
    found = account(readings, readings[-1].at_s)
    assert (found.units, found.restarts, found.lost) == (STEPS, 1, STEPS - 3)
    assert found.productive_s == pytest.approx(STEPS * STEP)


def test_a_disruption_without_a_restart_makes_one_step_long() -> None:
    readings = [Reading(START_UP, 0), *steps(START_UP, 1, 2 * STEPS, {3: 60.0, 8: 90.0})]
    found = account(readings, readings[-1].at_s)
    assert found.productive_s == pytest.approx(2 * STEPS * STEP)
    assert found.restarts == 0


def test_a_job_that_goes_on_from_a_checkpoint() -> None:
    assert account([Reading(1, 1001), Reading(2, 1002)], 2.0, first=1000).units == 2
    # It fell back behind where it stood first: nothing new is left.
    assert account([Reading(1, 1005), Reading(2, 900)], 2.0, first=1000) == Account(0.0, 1, 105, 1, None)


def test_readings_that_add_up() -> None:
    assert added_up([Reading(1, 5), Reading(2, 7)]) == [Reading(1, 5), Reading(2, 12)]
    assert account([], 3.0) == Account(None, 0, 0.0, None, None)


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1e6)), max_size=30))
def test_no_readings_make_more_than_they_say(pairs: list[tuple[float, float]]) -> None:
    at, readings = 0.0, []
    for gap, value in pairs:
        at += gap
        readings.append(Reading(at, value))
    found = account(readings, at + 1)
    if not readings:
        return
    assert found.units is not None
    assert 0 <= found.units <= max(one.value for one in readings)
    assert found.lost >= 0
    assert found.productive_s is None or 0 <= found.productive_s <= at + 1


def by_line(counter: Counter, line: str) -> float | None:
    assert counter.of_line is not None
    return counter.of_line(line)


def test_counters_of_known_logs() -> None:
    megatron, unit = counter_of_log("megatron")
    line = " iteration      201/  250000 | consumed samples:       205824 | elapsed time per iteration (ms): 139113.4 |"
    assert (by_line(megatron, line), unit) == (205824, "samples")
    nemo, _ = counter_of_log("nemo")
    assert by_line(nemo, "loss=3.1, v_num=, global_step=794.0, consumed_samples=1.63e+6]") == 1.63e6
    assert by_line(nemo, "nothing of the kind") is None
    with pytest.raises(UsageError, match="did you mean 'nemo'"):
        counter_of_log("nmo")


def test_counters_of_output_files_and_metrics(tmp_path: Path) -> None:
    assert by_line(counter_of(r"tokens: (\d+)"), "step 3 tokens: 17") == 17
    counter = counter_of(f"file:{tmp_path}/n")
    assert counter.of_now is not None
    assert counter.of_now() is None
    (tmp_path / "n").write_text("5\n")
    assert counter.of_now() == 5
    text = 'vllm_tokens_total{model="a"} 5.0\nvllm_tokens_total{model="b"} 7.0\n'
    assert of_metrics(f"# TYPE vllm_tokens counter\n{text}", "vllm_tokens_total") == 12
    for wrong, name in ((text, "other"), ("{", "x")):
        with pytest.raises(MeasureFailed):
            of_metrics(wrong, name)
    gone = counter_of("http://127.0.0.1:9/metrics#x")
    assert gone.of_now is not None
    assert gone.of_now() is None
    for given_units in ("http://127.0.0.1/metrics", "json:a", "(", "file:"):
        with pytest.raises(UsageError):
            counter_of(given_units)


def test_gpus_that_wait_and_are_slowed() -> None:
    tally = GpuTally()
    for second in range(4):
        tally.add(
            [GpuSample(uuid="a", busy_percent=20, energy_mj=1000 * second, reasons=0x4, link_errors=second),
             GpuSample(uuid="b", busy_percent=100, energy_mj=None, reasons=None)], cpus_busy=2.0,
        )  # fmt: skip
    tally.add([GpuSample(uuid="c")], cpus_busy=0.0)
    assert tally.joules == 3.0
    assert {one.name: one.value for one in tally.losses()} == {
        "GPUs idle": 40.0, "GPUs waiting for the CPU": 50.0, "GPU clocks lowered: power limit": 50.0, "errors of NVLinks": 3.0,
    }  # fmt: skip
    assert GpuTally().losses() == []
    assert GpuTally().joules is None


def test_what_the_kernel_counts() -> None:
    before = HostCounters({"cpu some": 0, "io full": 5}, 10, {0: 5, 1: 5})
    after = HostCounters({"cpu some": 2_000_000, "io full": 5, "memory some": 9}, 30, {0: 25, 1: 500})
    assert [(one.name, one.value) for one in host_losses(before, after, frozenset({0, 7}), 10.0)] == [
        ("some tasks waiting for cpu", 20.0), ("pages from another node", 2.0), ("interrupts of devices on its CPUs", 2.0),
    ]  # fmt: skip
    counted = job_losses(ProcessCounters(1, 5, 100, 0, None), ProcessCounters(9, 25, 300, 0, None), 10.0)
    assert [(one.name, one.value) for one in counted] == [("involuntary switches", 2.0), ("page faults", 20.0)]


def test_interrupts_of_devices_by_cpu() -> None:
    text = "            CPU0       CPU2\n  1:   5   7  IO-APIC  i8042\n 24: 1 2 PCI-MSI x\nLOC: 900 900 Local timer\nERR: 0\n"
    assert _interrupts(text) == {0: 6, 2: 9}
    assert _interrupts("") == {}


@pytest.mark.parametrize(
    ("argv", "told_of"),
    [
        ([], "give a command behind --"), (["--pid", "1", "--", "true"], "or one of"),
        (["--units", "x", "--log", "nemo", "--", "true"], "cannot be used together"),
        (["--for", "5s", "--", "true"], "a command runs until it ends"),
        (["--units", "x", "--pid", "1"], "the output of a running process cannot be read"),
        (["--slurm-job", "987654321"], "cgroup job_987654321: no such process"), (["--peak", "0", "--", "true"], "--peak"),
    ],
)  # fmt: skip
def test_wrong_use_is_told(argv: list[str], told_of: str) -> None:
    done = CliRunner().invoke(cli, ["goodput", *argv])
    assert done.exit_code == 2
    assert told_of in done.output


def test_a_counter_that_is_read_more_often_than_it_moves() -> None:
    readings = [Reading(float(second), 100.0 * (second // 10)) for second in range(101)]
    found = account(readings, 100.0)
    assert (found.units, found.productive_s) == (1000.0, pytest.approx(100.0))


def test_a_reading_that_failed_is_no_number() -> None:
    tally = GpuTally()
    tally.add([GpuSample(uuid="a", busy_percent=50, energy_mj=9_000_000, link_errors=7)], 0.0)
    assert tally.joules is None
    tally.add([GpuSample(uuid="a", busy_percent=50)], 0.0)
    tally.add([GpuSample(uuid="a", busy_percent=50, energy_mj=9_500_000, link_errors=7)], 0.0)
    assert tally.joules == 500.0
    assert "errors of NVLinks" not in {one.name for one in tally.losses()}


def test_threads_that_end_take_no_switches_back() -> None:
    before = ProcessCounters(1.0, 2000, 5, 0, 7)
    assert _at_least(before, ProcessCounters(2.0, 10, 9, 0, 8)) == ProcessCounters(2.0, 2000, 9, 0, 8)
    assert _at_least(None, before) == before


@pytest.mark.parametrize("value", ["nan", "+Inf"])
def test_a_metric_that_is_no_number_is_not_counted(value: str) -> None:
    with pytest.raises(MeasureFailed):
        of_metrics(f"x {value}\n", "x")


class Garbage(http.server.BaseHTTPRequestHandler):
    """What is no answer of a web server, or one that never ends."""

    def handle(self) -> None:
        asked = self.rfile.readline()
        if b"slow" in asked:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.1)
        else:
            self.wfile.write(b"hello, not http\n")


@pytest.mark.parametrize("path", ["garbage", "slow"])
def test_a_server_that_answers_anything_ends_nothing(path: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Garbage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        counter = counter_of(f"http://127.0.0.1:{server.server_address[1]}/{path}#x")
        assert counter.of_now is not None
        assert counter.of_now() is None
        assert time.monotonic() - began < 3
        server.shutdown()


def test_readings_of_a_file_do_not_add_up() -> None:
    done = CliRunner().invoke(cli, ["goodput", "--each", "--units", "file:/x", "--", "true"])
    assert done.exit_code == 2
    assert "--each is for the lines of a command" in done.output
