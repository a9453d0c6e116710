"""Where sources disagree: both sides, and what tuneagent does. Shown by `explain`."""

from __future__ import annotations

# Name of a tunable or row -> (one side, the other side, our rule).
DISPUTES: dict[str, tuple[str, str, str]] = {
    "kernel.numa_balancing": (
        "DeepEP measured stalls of 5 to 31 ms; Grace and ROCm guides and hpc-compute switch it off",
        "up to 20 % lost on AMD where nothing was pinned (TuneD pull request 283)",
        "off where GPU processes are pinned; on in mig-multi-tenant",
    ),
    "transparentHugepages": (
        "always: hpc-compute, AKS; 15 % more on CPU tensors (candle issue 2149)",
        "never: network-latency, OpenShift; 3.5 to 2.5 tokens/s with always (ik_llama.cpp 278)",
        "madvise; PyTorch and NumPy ask for huge pages themselves",
    ),
    "iommuMode": (
        "GPUDirect Storage: off gives the best results on x86",
        "AMD: pt, since off loses CPUs above 255; Grace and virtual machines need it on",
        "identity or off on x86, translated on Grace, never one value for all",
    ),
    "pcieAcs": (
        "NCCL: off on bare metal; 56 % to line rate measured (NCCL issue 949)",
        "without it devices are not isolated; GB200 data-direct needs a mask of its own",
        "reported on bridges above GPUs, on bare metal, and not for tenants",
    ),
    "cpuIdle": (
        "C6 takes 150 to 230 us to leave on recent Xeons (gVisor pull request 14526)",
        "shallow idle costs power, and turbo of busy cores; AMD keeps it on",
        "by exit latency, in the profile inference alone",
    ),
    "noSwap": (
        "fleet checks want none",
        "Kubernetes has LimitedSwap, GKE offers it against OOM kills",
        "none for GPU nodes; the policy of pods is the kubelet's",
    ),
    "smt": (
        "AMD's MI300X guide: off",
        "NVIDIA ships DGX with it on; more loader threads",
        "left alone unless a profile says so; then with whole cores for pods",
    ),
    "irqbalance": (
        "Grace guide: switch it off; 10 to 20 % with static affinity",
        "shared nodes: it follows the load, and newer versions know NUMA",
        "one owner: the service stopped with irqAffinity, or running with a ban list",
    ),
    "vm.zone_reclaim_mode": (
        "hpc-compute sets 1",
        "the kernel's default is 0, and 1 stalls allocations while other nodes have memory",
        "0",
    ),
    "nvme": (
        "read-ahead 4096 KiB in three TuneD profiles",
        "0 in spectrumscale-ece, where the file system reads ahead itself",
        "scheduler none; read-ahead only where a profile names it",
    ),
    "dirtyPages": (
        "TuneD: 40 and 10 per cent for throughput",
        "10 and 3 for latency; Grace guide 10 and 5",
        "bytes for training, since per cent of a terabyte is many gigabytes",
    ),
    "mitigations": (
        "folklore: off is faster",
        "no slow-down was measured in TensorFlow and Caffe jobs; tenants can read each other",
        "never changed, reported when off",
    ),
    "noDomainIsolation": (
        "TuneD's cpu-partitioning and realtime isolate by isolcpus",
        "the kernel calls that deprecated and irreversible; the kubelet takes no notice of it",
        "managed_irq alone, cpusets for the rest",
    ),
    "noNcclDebugSettings": (
        "some guides set NCCL_ALGO and NCCL_NET_GDR_LEVEL",
        "NCCL's manual: not in production",
        "reported",
    ),
    "gpuProcesses": (
        "PyTorch: 1 to 10 % from binding; 22 % of pages were remote in one report",
        "a vLLM author measured none; a cpuset for the whole container did nothing",
        "each rank by itself and from its start; measure before and after",
    ),
    "gspFirmware": (
        "off mended hangs of DCGM on T4",
        "on by default, and the open module ignores the switch",
        "reported",
    ),
}
