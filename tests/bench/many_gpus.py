"""Everything about several GPUs of one host, in one call: `many_gpus.py OUT`. Reading only; nothing is set on a card.

Keeps in OUT: capture, audits, topology; prints what differs from nvidia-smi and lscpu, what is found of running GPU
processes, what pinned and unpinned ranks measure (all at once, alternated), and the cost of an audit beside nvidia-smi.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_noise import TUNEAGENT, check, cuda

ROUNDS = 3
COPY = 64 << 20
COPIES = 40
LAUNCHES = 5000


def tuneagent(*arguments: str) -> str:
    done = subprocess.run([*TUNEAGENT, *arguments], capture_output=True, text=True, check=False)
    if "Traceback" in done.stderr or done.returncode not in (0, 3, 4):
        raise RuntimeError(f"tuneagent {arguments}: exit {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def compare_topology(out: Path) -> list[str]:
    """What our picture and the machine's own programs do not share."""
    text = tuneagent("topology", "-o", "json")
    (out / "topology.json").write_text(text)
    picture = json.loads(text)
    listed = subprocess.run(["lscpu", "-J"], capture_output=True, text=True, check=True).stdout
    fields: dict[str, str] = {}

    def collect(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            fields[entry["field"].rstrip(":")] = entry.get("data") or ""
            collect(entry.get("children", []))

    collect(json.loads(listed)["lscpu"])
    wrong = []
    for name, ours in (("CPU(s)", picture["cpus_online"]), ("Socket(s)", picture["packages"]),
                       ("Thread(s) per core", picture["smt"]), ("NUMA node(s)", len(picture["numa_nodes"]))):  # fmt: skip
        if fields.get(name) not in (None, str(ours)):
            wrong.append(f"lscpu {name}: {fields[name]}, ours {ours}")
    for node in picture["numa_nodes"]:
        theirs = fields.get(f"NUMA node{node['id']} CPU(s)")
        if theirs is not None and theirs != node["cpus"]:
            wrong.append(f"lscpu node {node['id']}: {theirs}, ours {node['cpus']}")
    matrix = subprocess.run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True, check=False).stdout
    (out / "nvidia-smi-topo.txt").write_text(matrix)
    addresses = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,pci.bus_id", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    ours_by_address = {device["address"]: device for device in picture["pci_gpus"]}
    for line in addresses.splitlines():
        index, bus = (part.strip() for part in line.split(","))
        device = ours_by_address.get(bus.lower()[4:])
        row = next((row for row in matrix.splitlines() if re.match(rf"GPU{index}\b", row)), "")
        affinity = re.search(r"\s(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\s+(\d+|N/A)", row.partition("X")[2])
        if device is None:
            wrong.append(f"GPU {index} at {bus} is not in our picture")
        elif affinity and affinity.group(1) != device["local_cpus"]:
            wrong.append(f"GPU {index}: nvidia-smi says CPUs {affinity.group(1)}, ours {device['local_cpus']}")
    return wrong


def gpu_count() -> int:
    return len(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines())


def holders(count: int, out: Path) -> None:
    """One small CUDA process on each GPU, and what an audit says of them."""
    processes = [
        subprocess.Popen([sys.executable, __file__, "hold"], env={**os.environ, "CUDA_VISIBLE_DEVICES": str(index)},
                         stdout=subprocess.PIPE, text=True)
        for index in range(count)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        report = tuneagent("audit", "-o", "json")
        (out / "audit-with-processes.json").write_text(report)
        found = [one for one in json.loads(report)["findings"] if one["tunable"] == "gpuProcesses"]
        for one in found:
            print(f"  {one['subject'][:60]:60} {one['verdict']:12} {one['observed']}")
        seen = {one["subject"].partition("@")[0] for one in found}
        print(f"  {len(seen)} of {count} processes are seen")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def hold() -> None:
    library = cuda()
    memory = ctypes.c_void_p()
    check(library.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(COPY)))
    print("ready", flush=True)
    time.sleep(60)


def rank() -> None:
    """Host-to-device bandwidth and launch latency of one rank, and where it may run."""
    library = cuda()
    host, target, none = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    check(library.cuMemHostAlloc(ctypes.byref(host), ctypes.c_size_t(COPY), 0))
    ctypes.memset(host, 1, COPY)
    check(library.cuMemAlloc_v2(ctypes.byref(target), ctypes.c_size_t(COPY)))
    started = time.perf_counter()
    for _ in range(COPIES):
        check(library.cuMemcpyHtoD_v2(target, host, ctypes.c_size_t(COPY)))
    bandwidth = COPIES * COPY / (time.perf_counter() - started) / 1e9
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    from gpu_noise import PTX

    check(library.cuModuleLoadData(ctypes.byref(module), PTX))
    check(library.cuModuleGetFunction(ctypes.byref(function), module, b"nothing"))
    taken = []
    for _ in range(LAUNCHES):
        start = time.perf_counter_ns()
        check(library.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, none, none, none))
        check(library.cuCtxSynchronize())
        taken.append((time.perf_counter_ns() - start) / 1000)
    taken.sort()
    print(json.dumps({"gb_s": bandwidth, "p50": taken[LAUNCHES // 2], "p99": taken[LAUNCHES * 99 // 100],
                      "cpus": sorted(os.sched_getaffinity(0))}))  # fmt: skip


def ranks(count: int, pinned: bool) -> list[dict[str, Any]]:
    """All ranks at once."""
    processes = []
    for number in range(count):
        environment = {**os.environ, "LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(count),
                       "CUDA_VISIBLE_DEVICES": str(number)}  # fmt: skip
        command = [sys.executable, __file__, "rank"]
        argv = [*TUNEAGENT, "run", "--memory", "bind", "--", *command] if pinned else command
        processes.append(subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True))
    found = []
    for process in processes:
        output, _ = process.communicate(timeout=120)
        if process.returncode:
            raise RuntimeError(f"a rank ended with {process.returncode}")
        found.append(json.loads(output.splitlines()[-1]))
    return found


def compare_ranks(count: int) -> None:
    medians: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        free, bound = ranks(count, False), ranks(count, True)
        for name in ("gb_s", "p50", "p99"):
            pair = tuple(statistics.median(one[name] for one in side) for side in (free, bound))
            medians.setdefault(name, []).append((pair[0], pair[1]))
        cpus = [set(one["cpus"]) for one in bound]
        together = set().union(*cpus)
        print(
            f"  pinned ranks: {sum(map(len, cpus))} CPUs in {count} sets, {'disjoint' if len(together) == sum(map(len, cpus)) else 'SHARED'}"
        )
    for name, pairs in medians.items():
        before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(
            f"  {name:6} unpinned {before:9.2f}  pinned {after:9.2f}  ratio {statistics.median(b / a for a, b in pairs):.3f}"
        )


def cost() -> None:
    """Wall time of an audit beside `nvidia-smi -q`, and the calls of NVML that it makes."""
    ours, theirs = [], []
    for _ in range(5):
        for argv, taken in (([*TUNEAGENT, "audit"], ours), (["nvidia-smi", "-q"], theirs)):
            started = time.perf_counter()
            subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)
            taken.append(time.perf_counter() - started)
    print(f"  audit {statistics.median(ours):.3f} s, nvidia-smi -q {statistics.median(theirs):.3f} s")
    script = (
        "import pynvml, collections\ncalls = collections.Counter()\n"
        "def wrap(name, call):\n    def inner(*a, **k):\n        calls[name] += 1\n        return call(*a, **k)\n    return inner\n"
        "for name in [n for n in dir(pynvml) if n.startswith('nvml') and callable(getattr(pynvml, n))]:\n"
        "    if not isinstance(getattr(pynvml, name), type): setattr(pynvml, name, wrap(name, getattr(pynvml, name)))\n"
        "from tuneagent import nvml, nvml_read\nnvml._open_library()\nnvml_read.snapshot()\nprint(sum(calls.values()))"
    )
    python = str(Path(TUNEAGENT[0]).parent / "python")
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    print(f"  calls of NVML in one snapshot: {done.stdout.strip() or done.stderr[-200:]}")


def main() -> None:
    if sys.argv[1] in ("hold", "rank"):
        {"hold": hold, "rank": rank}[sys.argv[1]]()
        return
    out = Path(sys.argv[1])
    count = gpu_count()
    print(f"{count} GPUs, {os.cpu_count()} CPUs")
    tuneagent("capture", str(out / "capture.tar.gz"))
    for profile in ("generic", "training"):
        (out / f"audit-{profile}.json").write_text(tuneagent("audit", "-p", profile, "-o", "json"))
    print(tuneagent("topology"))
    wrong = compare_topology(out)
    print("topology:", *(wrong or ["as lscpu and nvidia-smi say"]), sep="\n  ")
    print("GPU processes:")
    holders(count, out)
    print("ranks:")
    compare_ranks(count)
    print("cost:")
    cost()


if __name__ == "__main__":
    main()
