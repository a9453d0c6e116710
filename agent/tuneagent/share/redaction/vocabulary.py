"""Words that say nothing of their host: what a captured line may hold besides numbers.

Everything else in it is somebody's: a name, a key, a path. A word missed here costs a capture a value; one too many
may cost its owner a secret. So each table holds what the kernel and the programs themselves define.
"""

from __future__ import annotations

import re

from tuneagent.formats.lazy_regex import lazy_regex


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Numbers with a unit, lists of CPUs and ranges, switches, and the words in which the kernel speaks of them.
_PLAIN = lazy_regex(
    r"[\[(<]?-?(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20}(?:[-,:./][0-9]{1,20})*)(?:[KMGTPkmgtp]?i?[Bb]?|us|ms|s|%)[\])>]?\Z"
)
SWITCHES = _words(
    "Y N y n yes no on off true false True False none None auto default always never madvise defer defer+madvise advise "
    "force deny infinity unlimited max"
)
# Queueing disciplines and congestion controls of the kernel (net/sched, net/ipv4).
NETWORK = _words(
    "fq fq_codel fq_pie pfifo pfifo_fast pfifo_head_drop bfifo noqueue noop cake mq mqprio codel pie red sfq sfb tbf hfsc htb "
    "prio qfq drr choke gred hhf netem plug skbprio taprio etf ets cubic bbr bbr2 bbr3 reno dctcp htcp vegas westwood bic "
    "illinois scalable highspeed hybla veno yeah lp nv cdg prague"
)
# What files of /sys hold besides numbers: modes of huge pages, governors, schedulers, power states.
SYSFS = _words(
    "always madvise never defer defer+madvise advise within_size force deny performance powersave ondemand conservative "
    "schedutil userspace none mq-deadline kyber bfq deadline noop cfq on auto off forceoff notsupported default "
    "powersupersave write back through balance_performance balance_power power menu teo ladder haltpoll active passive "
    "disable enable enabled disabled"
)
# Values of kernel arguments (Documentation/admin-guide/kernel-parameters.txt).
ARGUMENTS = SYSFS | _words(
    "pt nopt strict lazy full nosmt flush noflush cond ctxt guest native compat soft edge level nohz domain managed_irq "
    "reliable unstable nowatchdog tsc hpet acpi_pm jiffies kvm-clock hyperv_clocksource poll halt nomwait mwait "
    "retpoline generic lfence eibrs ibrs unret ibpb prctl seccomp verw vmexit node socket interleave "
    "realloc noats nomsi noaer nocrs pcie_bus_safe pcie_bus_perf pcie_bus_peer2peer pcie_scan_all hpmemsize hpbussize "
    "selinux apparmor smack tomoyo bpf landlock lockdown yama integrity capability loadpin safesetid ima evm "
    "memory cpu cpuset io pids pressure rdma hugetlb misc voluntary lazy noirq vga efifb simpledrm "
    "fallback runtime nochunk noretain high low nmi debug ignore copy_dsdt relax sm_on sm_off igfx_off passthrough "
    "hwp_only no_hwp support_acpi_ppc per_cpu_perf_limits panic tty0 null"
)
_CONSOLE = lazy_regex(r"(tty|ttyS|ttyAMA|ttyUSB|hvc|xvc|uart)[0-9]{0,3}(,[0-9]{1,7}[noe]?[0-9]?r?)?\Z")
# `k` is a unit of crashkernel=, `@` stands between size and place.
_MEMORY = lazy_regex(r"[0-9]{1,15}[KMGTkmgt]?(-[0-9]{0,15}[KMGTkmgt]?)?([@:$!#][0-9a-fx]{1,18}[KMGTkmgt]?)?\Z")
_KERNEL_IMAGE = lazy_regex(
    r"(\([a-z0-9,$]{1,24}\))?(/boot)?/(vmlinuz|bzImage|Image|kernel)(-[0-9]+\.[0-9]+[0-9A-Za-z._+~-]{0,48})?\Z"
)
MODULES = lazy_regex(
    r"(nvidia([-_](drm|modeset|uvm|peermem|fs|vgpu[a-z-]*))?|nouveau|nvme([-_](core|tcp|rdma|fabrics))?|mlx[45][-_](core|ib|en)|ib[-_][a-z]{2,8}"
    r"|rdma[-_](cm|ucm|rxe)|intel[-_]idle|kvm([-_](intel|amd))?|vfio([-_][a-z0-9]{2,8}){0,3}|i915|xe|amdgpu|radeon|ast|mgag200|ixgbe|ice|i40e|igb"
    r"|irdma|efa|bnxt[-_](en|re)|ena|gdrdrv|overlay|nf[-_]conntrack|bonding|zswap|zram|processor|workqueue|rcutree|pcie[-_]aspm"
    r"|lustre|lnet|xfs|ext4|br[-_]netfilter|tcp[-_](bbr|cubic|dctcp)|sch[-_]fq|pcspkr|iTCO[-_]wdt|usb[-_]storage|floppy|edac[-_]core)\Z"
)
DEVICE = lazy_regex(
    r"(/dev/((sd|vd|xvd|hd)[a-z]{1,3}[0-9]{0,3}|nvme[0-9]{1,3}n[0-9]{1,3}(p[0-9]{1,3})?|md[0-9]{1,3}|dm-[0-9]{1,4}"
    r"|mmcblk[0-9](p[0-9])?|loop[0-9]{1,4}|zram[0-9]{1,3}|root|ram[0-9])|(PART)?UUID=[0-9a-fA-F-]{4,36})\Z"
)
# What file systems without a device are mounted from.
SOURCES = _words(
    "proc sysfs tmpfs devtmpfs cgroup cgroup2 overlay overlayfs none hugetlbfs bpf debugfs tracefs securityfs pstore efivarfs "
    "mqueue configfs fusectl devpts ramfs systemd-1 nsfs shm udev binfmt_misc rpc_pipefs sunrpc nfsd selinuxfs rootfs lxcfs "
    "autofs squashfs composefs portal gvfsd-fuse swap run dev"
)
_FOLDERS = _words(
    "etc boot efi EFI grub grub2 loader entries usr var run sys proc dev tmp root lib lib64 bin sbin opt srv home mnt media local "
    "share log cache state spool fs cgroup kernel debug tracing config security selinux bpf fuse connections pts shm mqueue "
    "hugepages hugepages-1G hugepages-2M hugepages-1048576kB hugepages-2048kB huge lock systemd system system-control user "
    "sysctl.d modprobe.d tmpfiles.d udev rules.d default grub.d limits.d containerd kubelet kubernetes docker crio firmware "
    "efivars pstore nvidia driver params registry version gpus capabilities tuneagent hosts hostname resolv.conf passwd group "
    "binfmt_misc sysroot ostree deploy nix store snap nfs rpc_pipefs modules mm swap swapfile swap.img net block bus pci devices "
    "data scratch unified cpu cpuset memory blkio hugetlb pids rdma misc perf_event freezer net_cls net_prio cpuacct credentials initramfs "
    "nccl.conf fstab sys-kernel self mounts os-release"
)
# Words that names of configuration files are made of where a package or a guide names them.
_FILE_WORDS = _words(
    "sysctl network security kernel hardening console messages link restrictions ipv magic sysrq ptrace map count zeropage bufferbloat "
    "tuned tuneagent nvidia nvme mlx mellanox ofed openibd infiniband rdma ib gpu cuda nccl k s kubernetes kubelet kube cni cri "
    "containerd crio docker podman systemd default defaults override overrides limits limit hugepages thp transparent pid max core "
    "coredump swap swappiness vm net tcp bbr inotify file nofile nproc memlock stack local custom site admin vendor dist "
    "blacklist nouveau modprobe options udev block scheduler io queue readahead storage disk persistent rules drivers kvm "
    "vfio iommu cpu cpus irq irqbalance governor numa thp zz zzz a b c d x y z config conf cfg toml yaml grub libvirt qemu "
    "service cron rc local performance latency hpc slurm lustre nfs dirty forward bridge nf ip elasticsearch postgres redis base cloudimg settings "
    "throughput guest host balanced powersave accelerator compute desktop realtime partitioning spindown intel sst aws openshift "
    "cpupower cpufrequtils sysfs zram generator tlp main ufw "
    "control plane node optimize serial atomic cpupartitioning "
    "system user machine init slice scope target multi graphical basic sysinit rescue socket sockets timer timers mount "
    "ubuntu debian rhel rocky alma centos fedora suse amazon oracle flatcar allowed allow affinity accounting delegate"
)
_QUANTITY = lazy_regex(r"[0-9]{1,15}(\.[0-9]{1,6})?([KMGTPE]i?|m|k|%)?\Z")


def is_plain(word: str) -> bool:
    """Whether a word is a number, a list of numbers or a switch: a setting, and no secret."""
    return word in SWITCHES or bool(_PLAIN.match(word))


def is_argument_value(name: str, value: str) -> bool:
    """Whether the value of a kernel argument is made of numbers and of the kernel's own words alone."""
    if name == "BOOT_IMAGE":
        return bool(_KERNEL_IMAGE.match(value))
    if name == "console":
        return bool(_CONSOLE.match(value)) or value in ARGUMENTS
    if name.endswith("blacklist"):
        return all(MODULES.match(one) for one in value.split(","))
    return all(
        part in ARGUMENTS or is_plain(part) or _MEMORY.match(part) for part in re.split(r"[,:;=+]", value) if part
    )


def is_kernel_image(path: str) -> bool:
    """A path of a kernel as distributions name it."""
    return bool(_KERNEL_IMAGE.match(path))


def is_quantity(text: str) -> bool:
    """A quantity of Kubernetes, as `1Gi` or `500m`."""
    return bool(_QUANTITY.match(text))


# Where container runtimes listen.
SOCKET = r"(?:unix://)?/(?:var/)?run/(?:crio/crio|(?:k3s/)?containerd/containerd)\.sock"

# Values of the kubelet's settings, and names of fields within them.
KUBELET_WORDS = (
    r"none|static|best-effort|restricted|single-numa-node|[Ss]tatic|None|BestEffort|container|pod|systemd|cgroupfs|LimitedSwap|NoSwap"
    rf"|UnlimitedSwap|{SOCKET}|kubelet\.config\.k8s\.io/v1(alpha1|beta1)?|KubeletConfiguration"
)
KUBELET_KEYS = (
    r"cpu|memory|ephemeral-storage|pid|hugepages-[0-9]{1,4}[KMG]i|(memory|nodefs|imagefs|pid|containerfs)\.(available|inodesFree)"
    r"|full-pcpus-only|distribute-cpus-across-(numa|cores)|align-by-socket|strict-cpu-reservation|prefer-align-cpus-by-uncorecache"
    r"|prefer-closest-numa-nodes|max-allowable-numa-nodes|swapBehavior|numaNode|limits"
    r"|(CPUManager|TopologyManager|MemoryManager|NodeSwap|Dynamic|Kubelet|KubeletPodResources|DevicePlugin|InPlacePod|Graceful)[A-Za-z]{0,40}"
)


def known_part(path: str) -> tuple[str, str]:
    """A path up to its first component that is not a well-known folder, and the rest."""
    parts = path.split("/")
    known = next((n for n, part in enumerate(parts) if part and part not in _FOLDERS), len(parts))
    return "/".join(parts[:known]), "/".join(parts[known:])


def is_file_name(name: str) -> bool:
    """Whether the name of a configuration file is made of words that packages and guides use."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return bool(re.match(r"[A-Za-z0-9@_.-]{1,64}\Z", name)) and all(word in _FILE_WORDS for word in words)
