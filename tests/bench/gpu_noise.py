"""What `tuneagent run` is worth under CPU noise on one GPU host, and what huge pages are worth at first touch.

    gpu_noise.py [PAIRS]

Two ranks share the host: rank 0 launches kernels and feeds batches, rank 1 is noise (two busy threads for each CPU).
Unpinned, both run anywhere; pinned, both are started by `tuneagent run`, which gives them disjoint whole cores.
Alternated in one run. CUDA is used through libcuda alone; nothing is set on the card.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

LAUNCHES = 20000
FEED_S = 4.0
BATCH = 32 << 20
TOUCH_GIB = 4
PTX = b""".version 7.0
.target sm_80
.address_size 64
.visible .entry nothing() { ret; }
"""
TUNEAGENT = os.environ.get("TUNEAGENT", "tuneagent").split()


def cuda() -> ctypes.CDLL:
    library = ctypes.CDLL("libcuda.so.1")
    for call, arguments in (("cuInit", (0,)),):
        check(getattr(library, call)(*arguments))
    device, context = ctypes.c_int(), ctypes.c_void_p()
    check(library.cuDeviceGet(ctypes.byref(device), 0))
    check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(library.cuCtxSetCurrent(context))
    library.context = context
    return library


def check(code: int) -> None:
    if code:
        raise RuntimeError(f"CUDA error {code}")


def latency() -> dict[str, float]:
    """Launch an empty kernel and wait for it, many times: microseconds."""
    library = cuda()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    check(library.cuModuleLoadData(ctypes.byref(module), PTX))
    check(library.cuModuleGetFunction(ctypes.byref(function), module, b"nothing"))
    none = ctypes.c_void_p()
    taken = []
    for _ in range(LAUNCHES):
        start = time.perf_counter_ns()
        check(library.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, none, none, none))
        check(library.cuCtxSynchronize())
        taken.append((time.perf_counter_ns() - start) / 1000)
    taken.sort()
    return {f"p{p}": taken[min(int(LAUNCHES * p / 100), LAUNCHES - 1)] for p in (50, 99, 99.9)}


def feed() -> dict[str, float]:
    """Four loader threads fill pinned buffers and copy them to the GPU: batches of 32 MiB a second."""
    library = cuda()
    done = [0] * 4
    end = time.monotonic() + FEED_S

    def load(number: int) -> None:
        check(library.cuCtxSetCurrent(library.context))
        host, target, stream = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        check(library.cuMemHostAlloc(ctypes.byref(host), ctypes.c_size_t(BATCH), 0))
        check(library.cuMemAlloc_v2(ctypes.byref(target), ctypes.c_size_t(BATCH)))
        check(library.cuStreamCreate(ctypes.byref(stream), 1))
        source = ctypes.create_string_buffer(BATCH)
        while time.monotonic() < end:
            ctypes.memmove(host, source, BATCH)
            check(library.cuMemcpyHtoDAsync_v2(target, host, ctypes.c_size_t(BATCH), stream))
            check(library.cuStreamSynchronize(stream))
            done[number] += 1

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"batches_per_s": sum(done) / FEED_S}


def touch() -> dict[str, float]:
    """Seconds to touch memory for the first time, with and without huge pages asked for."""
    found = {}
    for name, advice in (("4k", 15), ("huge", 14)):
        area = mmap.mmap(-1, TOUCH_GIB << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        area.madvise(advice)
        start = time.perf_counter()
        for offset in range(0, TOUCH_GIB << 30, 4096):
            area[offset] = 1
        found[name] = time.perf_counter() - start
        area.close()
    return found


def noise() -> None:
    """Busy until killed: two processes for each CPU of the machine, and how much they got done."""
    stop = time.monotonic() + 120
    for _ in range(2 * (os.cpu_count() or 1) - 1):
        if os.fork() == 0:
            break
    count = 0
    while time.monotonic() < stop and os.getppid() != 1:
        for _ in range(10000):
            count += 1


def side(pinned: bool, mode: str) -> dict[str, float]:
    def argv(rank: int, what: str) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, __file__, what]
        environment = {**os.environ, "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        return ([*TUNEAGENT, "run", "--gpu", "0", "--", *command] if pinned else command), environment

    command, environment = argv(1, "noise")
    disturber = subprocess.Popen(command, env=environment, start_new_session=True)
    time.sleep(2)
    try:
        command, environment = argv(0, mode)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        answer: dict[str, float] = json.loads(done.stdout)
        return answer
    finally:
        os.killpg(disturber.pid, 9)
        disturber.wait()


def main() -> None:
    if sys.argv[1:2] in (["latency"], ["feed"], ["touch"]):
        print(json.dumps(globals()[sys.argv[1]]()))
        return
    if sys.argv[1:2] == ["noise"]:
        noise()
        return
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    results: dict[str, list[tuple[float, float]]] = {}
    for _ in range(pairs):
        for mode in ("latency", "feed"):
            free, bound = side(False, mode), side(True, mode)
            for name in free:
                results.setdefault(f"{mode} {name}", []).append((free[name], bound[name]))
        found = touch()
        results.setdefault("first touch s", []).append((found["4k"], found["huge"]))
    print(f"{'':24}{'without':>12}{'with':>12}{'ratio':>8}   ({pairs} pairs, medians)")
    for name, both in results.items():
        before, after = (statistics.median(values) for values in zip(*both, strict=True))
        ratio = statistics.median(two / one for one, two in both)
        print(f"{name:24}{before:12.2f}{after:12.2f}{ratio:8.3f}")
    model = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    print(f"{model}, {os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()
