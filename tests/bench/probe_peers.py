"""Probes beside the field's own programs, in turn, on one machine: `python tests/bench/probe_peers.py`. No test.

Needs rt-tests, linux-perf, fio, likwid and qperf of Debian; what is missing is left out.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tuneagent.host import kernels

PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
FOLDER = "/var/tmp"
PORT = "19777"


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout + done.stderr


def found(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in {text[-300:]}"
    return float(match.group(1))


def ours(name: str, *arguments: str, mean: bool = False) -> float:
    samples = kernels.run_kernel(name, arguments, 120).samples
    return statistics.mean(samples) if mean else statistics.median(samples)


def woken() -> float:
    with kernels.latency_limit(0):
        return ours("wakeup", "0", "500", "2000", mean=True) / 1e3


def read_by_fio() -> float:
    answer = said("fio", "--name=x", "--rw=read", "--bs=128k", "--ioengine=psync", "--size=512m", f"--directory={FOLDER}",
                  "--end_fsync=1", "--unlink=1", "--output-format=json")  # fmt: skip
    return float(json.loads(answer[answer.index("{") :])["jobs"][0]["read"]["bw_bytes"]) / 1e6


@contextlib.contextmanager
def qperf() -> Iterator[None]:
    server = subprocess.Popen(["taskset", "-c", "1", "qperf", "-lp", PORT])
    time.sleep(0.5)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def asked_by_qperf() -> float:
    """qperf tells half of the way there and back."""
    with qperf():
        text = said("taskset", "-c", "0", "qperf", "-lp", PORT, "-t", "2", "-m", "64", "127.0.0.1", "tcp_lat")
    value, unit = re.search(r"latency\s*=\s*([0-9.]+) (us|ms)", text).groups()  # type: ignore[union-attr]
    return 2 * float(value) * (1000 if unit == "ms" else 1)


ROWS: tuple[tuple[str, str, str, Callable[[], float], Callable[[], float]], ...] = (
    ("wakeup, mean, us", "cyclictest", "cyclictest", woken,
     lambda: found(r"Avg:\s*(\d+)", said("cyclictest", "-a", "0", "-t", "1", "-i", "500", "-l", "2000", "-q", "--policy=other"))),
    ("syscall, ns", "perf", "perf bench syscall basic", lambda: ours("syscall", "0", "500"),
     lambda: 1e3 * found(r"([0-9.]+) usecs/op", said("taskset", "-c", "0", "perf", "bench", "syscall", "basic", "-l", "1000000"))),
    ("memory-bandwidth, GB/s", "likwid-bench", "likwid-bench stream",
     lambda: ours("bandwidth", "0-1", "0", "128", "20"),
     lambda: found(r"MByte/s:\s*([0-9.]+)", said("likwid-bench", "-t", "stream", "-w", "N:384MB:2")) / 1e3),
    ("loopback, us", "qperf", "qperf tcp_lat", lambda: ours("tcp", "0", "1", "20000", mean=True) / 1e3, asked_by_qperf),
    ("storage-read, MB/s", "fio", "fio read", lambda: ours("storage", FOLDER, "512", "sequential", "1", mean=True), read_by_fio),
)  # fmt: skip


def main() -> None:
    print(f"{'probe':<24} {'ours':>9} {'peer':>9} {'ratio':>6}  peer ({PAIRS} pairs, medians)")
    for name, program, label, mine, theirs in ROWS:
        if shutil.which(program) is None:
            print(f"{name:<24} {program} is not installed")
            continue
        pairs = [(mine(), theirs()) for _ in range(PAIRS)]
        one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(first / second for first, second in pairs)
        print(f"{name:<24} {one:>9.3g} {other:>9.3g} {ratio:>5.2f}x  {label}", flush=True)


if __name__ == "__main__":
    assert Path(FOLDER).is_dir()
    main()
