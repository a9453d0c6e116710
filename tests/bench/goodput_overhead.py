"""What watching costs the watched: a command alone and under `tuneagent goodput`, in turn. No test."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
TUNEAGENT = str(Path(sys.executable).parent / "tuneagent")
# Says itself how long its work took: start and report of the program are not part of it.
WORK = """
import time
began = time.perf_counter()
for step in range(1, 301):
    sum(range(200_000))
    print("step", step, flush=True)
print("took", time.perf_counter() - began)
"""


def seconds(argv: list[str]) -> float:
    done = subprocess.run([*argv, sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    return float(done.stdout.rsplit("took", 1)[1])


def main() -> None:
    alone, watched, again = list[float](), list[float](), list[float]()
    for _ in range(PAIRS):
        alone.append(seconds([]))
        watched.append(seconds([TUNEAGENT, "goodput", "--units", r"step (\d+)", "--"]))
        again.append(seconds([]))
        time.sleep(0.2)
    ratio = statistics.median(two / (one * three) ** 0.5 for one, two, three in zip(alone, watched, again, strict=True))
    noise = statistics.median(max(one, two) / min(one, two) - 1 for one, two in zip(alone, again, strict=True))
    print(f"{statistics.median(alone):.3f} s alone, {statistics.median(watched):.3f} s watched: {ratio:.4f}x")
    print(f"two runs alone differ by {100 * noise:.2f} % ({PAIRS} pairs, medians)")


if __name__ == "__main__":
    main()
