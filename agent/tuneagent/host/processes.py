"""Processes of the host: who they are, where they may run, where their memory lies; and this process itself."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Sequence
from typing import Protocol

from tuneagent.errors import ReadFailed, WriteFailed

_THREAD_LIMIT = 20000
# Kernel constants of include/uapi/linux/mempolicy.h.
_MPOL_PREFERRED, _MPOL_BIND = 1, 2
_MIGRATE_PAGES = {"x86_64": 256, "aarch64": 238, "ppc64le": 258, "riscv64": 238}
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "ppc64le": 261, "riscv64": 237}
# Inode numbers that the kernel gives its first namespaces (include/linux/proc_ns.h; net since 6.18).
_FIRST_NAMESPACE = {"ipc": 0xEFFFFFFF, "pid": 0xEFFFFFFC, "net": 0xEFFFFFF9}


class Processes(Protocol):
    """Process table and affinities of the host."""

    def started(self, pid: int) -> int:
        """When a process started, in clock ticks since boot: together with its pid, its identity. Raises ReadFailed."""

    def affinity(self, pid: int) -> tuple[frozenset[int], ...]:
        """Allowed CPUs of each thread. Raises ReadFailed."""

    def pages_by_node(self, pid: int) -> dict[int, int]:
        """KiB of resident memory by NUMA node (numa_maps). Raises ReadFailed."""

    def shared_memory(self, pid: int) -> int:
        """Size in bytes of the /dev/shm that the process sees. Raises ReadFailed."""

    def run_delay(self, pid: int) -> tuple[int, int]:
        """Nanoseconds that the main thread ran, and that it waited for a CPU. Raises ReadFailed."""

    def environment(self, pid: int) -> dict[str, str]:
        """Environment that the process was started with. Raises ReadFailed."""

    def migrate(self, pid: int, source: Sequence[int], target: Sequence[int]) -> None:
        """Move the pages of a process from some NUMA nodes to others (migrate_pages(2)). Raises WriteFailed."""

    def pin(self, pid: int, cpus: Sequence[int]) -> None:
        """Set the allowed CPUs of every thread. Raises WriteFailed."""


class NoProcesses:
    """A tree or a capture: its processes are not here."""

    def started(self, pid: int) -> int:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def affinity(self, pid: int) -> tuple[frozenset[int], ...]:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def pages_by_node(self, pid: int) -> dict[int, int]:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def shared_memory(self, pid: int) -> int:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def run_delay(self, pid: int) -> tuple[int, int]:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def environment(self, pid: int) -> dict[str, str]:
        """Always refuses."""
        raise ReadFailed(f"pid {pid}: a tree of files has no processes")

    def migrate(self, pid: int, source: Sequence[int], target: Sequence[int]) -> None:
        """Always refuses."""
        raise WriteFailed(f"pid {pid}: a tree of files has no processes")

    def pin(self, pid: int, cpus: Sequence[int]) -> None:
        """Always refuses."""
        raise WriteFailed(f"pid {pid}: a tree of files has no processes")


class LocalProcesses:
    """The processes of this machine; in a pod with hostPID these are the host's."""

    def started(self, pid: int) -> int:
        """Field 22 of /proc/PID/stat. psutil gives it in seconds of the wall clock, which may be changed."""
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as handle:
                line = handle.read()
            return int(line.rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError) as error:
            raise ReadFailed(f"pid {pid}: {error}") from None

    def affinity(self, pid: int) -> tuple[frozenset[int], ...]:
        """Allowed CPUs of each thread."""
        return tuple(frozenset(os.sched_getaffinity(thread)) for thread in self._threads(pid))

    def pages_by_node(self, pid: int) -> dict[int, int]:
        """KiB by node, added up over numa_maps."""
        totals: dict[int, int] = {}
        try:
            with open(f"/proc/{pid}/numa_maps", encoding="utf-8", errors="replace") as handle:
                for line in handle:
                    page_kib = int(size.group(1)) if (size := re.search(r"kernelpagesize_kB=(\d+)", line)) else 4
                    for node, pages in re.findall(r"\bN(\d+)=(\d+)", line):
                        totals[int(node)] = totals.get(int(node), 0) + int(pages) * page_kib
        except OSError as error:
            raise ReadFailed(f"/proc/{pid}/numa_maps: {error.strerror}") from None
        return totals

    def migrate(self, pid: int, source: Sequence[int], target: Sequence[int]) -> None:
        """Move pages of a process between nodes; pages that cannot be moved stay."""
        number = _MIGRATE_PAGES.get(os.uname().machine)
        if number is None:
            raise WriteFailed(f"pid {pid}: migrate_pages is not known on {os.uname().machine}")
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        masks = []
        for nodes in (source, target):
            mask = (ctypes.c_ulong * 16)()
            for node in nodes:
                mask[node // 64] |= 1 << (node % 64)
            masks.append(mask)
        # The kernel takes the size in bits, one more than it uses.
        if libc.syscall(number, pid, 16 * 64 + 1, masks[0], masks[1]) < 0:
            raise WriteFailed(f"pid {pid}: migrate_pages: {os.strerror(ctypes.get_errno())}")

    def shared_memory(self, pid: int) -> int:
        """Size in bytes of the /dev/shm that the process sees."""
        path = f"/proc/{pid}/root/dev/shm"
        try:
            found = os.statvfs(path)
        except OSError as error:
            raise ReadFailed(f"{path}: {error.strerror}") from None
        return found.f_blocks * found.f_frsize

    def run_delay(self, pid: int) -> tuple[int, int]:
        """Nanoseconds that the main thread ran, and that it was ready and waited (sched-stats, schedstat)."""
        path = f"/proc/{pid}/schedstat"
        try:
            with open(path, encoding="ascii") as handle:
                ran, waited, _ = handle.read().split()
            return int(ran), int(waited)
        except (OSError, ValueError) as error:
            raise ReadFailed(f"{path}: {error}") from None

    def environment(self, pid: int) -> dict[str, str]:
        """Environment that the process was started with."""
        # Loaded only when a process is inspected: an audit of a host without GPU processes never loads it.
        import psutil

        try:
            found: dict[str, str] = psutil.Process(pid).environ()
        except (psutil.Error, OSError) as error:
            raise ReadFailed(f"/proc/{pid}/environ: {error}") from None
        return found

    def pin(self, pid: int, cpus: Sequence[int]) -> None:
        """Set every thread's affinity; threads started meanwhile inherit it from a thread that is already set."""
        for _ in range(2):
            for thread in self._threads(pid):
                try:
                    os.sched_setaffinity(thread, set(cpus))
                except ProcessLookupError:
                    continue
                except OSError as error:
                    raise WriteFailed(f"pid {pid} thread {thread}: sched_setaffinity: {error.strerror}") from None

    @staticmethod
    def _threads(pid: int) -> list[int]:
        try:
            threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        except OSError as error:
            raise ReadFailed(f"/proc/{pid}/task: {error.strerror}") from None
        if len(threads) > _THREAD_LIMIT:
            raise ReadFailed(f"pid {pid}: more than {_THREAD_LIMIT} threads")
        return threads


def namespace_is_hosts(kind: str, host_pid: int = 1) -> bool | None:
    """Whether this process shares the host's namespace of `kind` (`net`, `ipc`); None if that cannot be determined.

    Proof is the kernel's fixed number of the first namespace, or the same namespace as `host_pid` seen
    from the host's pid namespace: in a container without it, pid 1 is only the container's own.
    """
    own = _namespace_number("self", kind)
    if own is not None and own == _FIRST_NAMESPACE.get(kind):
        return True
    theirs = _namespace_number(str(host_pid), kind)
    if own is None or theirs is None:
        return None
    if own != theirs:
        return False
    return True if _namespace_number("self", "pid") == _FIRST_NAMESPACE["pid"] else None


def _namespace_number(process: str, kind: str) -> int | None:
    try:
        return int(os.readlink(f"/proc/{process}/ns/{kind}").rpartition("[")[2].rstrip("]"))
    except (OSError, ValueError):
        return None


def own_cpus() -> frozenset[int]:
    """CPUs that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def usable_cpus() -> frozenset[int]:
    """CPUs that this process may move to: also isolated ones, which nothing is given without asking."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))
        return frozenset(os.sched_getaffinity(0))
    except (OSError, ValueError):
        return frozenset(before)
    finally:
        os.sched_setaffinity(0, before)


def starter_cpus(variables: Collection[str]) -> frozenset[int] | None:
    """CPUs of the process that started this rank: the first ancestor without any of the variables that ranks have.

    None where it is not known, as of one outside this container.
    """
    # Loaded only in a job: everything else starts without it.
    import psutil

    own = own_cpus()
    try:
        for ancestor in psutil.Process().parents():
            cpus = frozenset(ancestor.cpu_affinity() or ())
            try:
                is_of_the_rank = any(name in variables for name in ancestor.environ())
            except psutil.AccessDenied:
                # A wrapper of another user, as sudo or a container's starter, has the CPUs of the rank.
                is_of_the_rank = cpus == own
            if not is_of_the_rank:
                return cpus
    except (psutil.Error, OSError):
        return None
    return None


def bind_self(cpus: frozenset[int], memory: str, nodes: frozenset[int]) -> str | None:
    """Bind this process (and what it becomes by exec) to CPUs, and its memory to NUMA nodes.

    `memory` is `bind`, `prefer` or `none`. Says why memory was left alone where the kernel has no memory to give on
    these nodes. Raises WriteFailed.
    """
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise WriteFailed(f"sched_setaffinity: {error.strerror}") from None
    if memory == "none" or not nodes:
        return None
    number = _SET_MEMPOLICY.get(os.uname().machine)
    if number is None:
        raise WriteFailed(f"set_mempolicy: system call number unknown for {os.uname().machine}")
    words = max(nodes) // 64 + 1
    import ctypes

    mask = (ctypes.c_ulong * words)()
    chosen = sorted(nodes)[:1] if memory == "prefer" else sorted(nodes)
    for node in chosen:
        mask[node // 64] |= 1 << (node % 64)
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _MPOL_BIND if memory == "bind" else _MPOL_PREFERRED
    if libc.syscall(number, mode, ctypes.byref(mask), words * 64 + 1) == 0:
        return None
    if ctypes.get_errno() == errno.EINVAL:
        named = ", ".join(str(node) for node in chosen)
        return f"no memory can be had on NUMA node {named}, so memory is not bound"
    raise WriteFailed(f"set_mempolicy: {os.strerror(ctypes.get_errno())}")


def replace_self(argv: Sequence[str]) -> None:
    """Become another program. Returns only by raising OSError."""
    with contextlib.suppress(BrokenPipeError):
        os.execvp(argv[0], list(argv))


def machine() -> tuple[str, str, str]:
    """Host name, kernel release and architecture of this machine."""
    uname = os.uname()
    return uname.nodename, uname.release, uname.machine


def environment(name: str) -> str | None:
    """Value of an environment variable of this process."""
    return os.environ.get(name)
