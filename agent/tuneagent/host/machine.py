"""One machine, or the picture of one: its files, programs and processes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import msgspec

from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.errors import CommandFailed, PathMissing, ReadFailed, WriteFailed
from tuneagent.host.commands import OUTPUT_LIMIT_BYTES, Exec, LocalExec, NamespaceExec, NoExec
from tuneagent.host.files import Files
from tuneagent.host.kernel_log import DMESG, device_warnings
from tuneagent.host.processes import LocalProcesses, NoProcesses, Processes, namespace_is_hosts


class Host(msgspec.Struct, frozen=True):
    """One machine, or the picture of one. `source` is `live`, `tree` or `capture`."""

    files: Files
    exec: Exec
    processes: Processes
    source: str = "live"
    host_pid: int = 1
    now: Callable[[], float] = time.time
    # Path -> error text of files that a capture could not read on its machine.
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)
    # When a capture was taken, in seconds since 1970.
    taken: float | None = None
    # Files that a capture's machine did not have.
    absent: frozenset[str] = frozenset()
    # What a capture's machine knew of its own namespaces.
    namespaces: dict[str, bool | None] = msgspec.field(default_factory=dict)

    def observe(self, path: str) -> Observation:
        """One kernel file as an observation: a missing file is Absent, a failed read is Unreadable."""
        if path.lstrip("/") in self.unreadable:
            return Unreadable(self.unreadable[path.lstrip("/")])
        try:
            return Value(self.files.read(path))
        except PathMissing:
            return self.missing(path)
        except ReadFailed as error:
            return Unreadable(str(error))

    def order(self, argv: Sequence[str], timeout_s: float = 30.0) -> None:
        """Run a program that changes something. Raises WriteFailed if it cannot be run or fails."""
        try:
            done = self.exec.run(argv, timeout_s)
        except CommandFailed as error:
            raise WriteFailed(str(error)) from None
        if done.code != 0:
            raise WriteFailed(f"{' '.join(argv)[:120]}: exit {done.code}: {done.stderr.strip()[-300:]}")

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit of the host's systemd. Raises CommandFailed."""
        done = self.exec.run(["systemctl", "show", f"--property={','.join(properties)}", name], 30.0)
        if done.code != 0:
            raise CommandFailed(f"systemctl: exit {done.code}: {done.stderr.strip()[:200]}")
        return dict(re.findall(r"^(\w+)=(.*)$", done.stdout, re.MULTILINE))

    def kernel_warnings(self) -> str:
        """Messages of the kernel of level warning and worse, one a line. Raises CommandFailed."""
        if isinstance(self.exec, LocalExec) and (found := device_warnings()) is not None:
            return found[-OUTPUT_LIMIT_BYTES:]
        done = self.exec.run(DMESG)
        if done.code != 0:
            raise CommandFailed(f"dmesg: exit {done.code}: {done.stderr.strip()[:200]}")
        return done.stdout

    @property
    def lacks_systemd(self) -> bool:
        """Whether a capture's programs said that systemd does not run on its machine."""
        if self.source != "capture":
            return False
        from tuneagent.host.recording import RecordedExec

        return isinstance(self.exec, RecordedExec) and self.exec.lacks_systemd

    def missing(self, path: str) -> Absent | Unreadable:
        """What a missing file means: nothing of the kind here, or, in a tree without its folder, nothing known."""
        name = path.strip("/")
        folder = name.rpartition("/")[0]
        if self.source == "capture" and name not in self.absent:
            return Unreadable(f"/{name}: not in this capture")
        if self.source == "live" or name in self.absent or self.files.is_dir(folder):
            return Absent(f"/{name}: no such file")
        return Unreadable(f"/{name}: this {self.source} has no /{folder}")

    def namespace_is_hosts(self, kind: str) -> bool | None:
        """Whether namespaced settings read here are the host's. A tree's files are what they are."""
        if self.source != "live":
            return self.namespaces.get(kind, True)
        return namespace_is_hosts(kind, self.host_pid)


def live_host() -> Host:
    """This machine."""
    return Host(Files("/"), LocalExec(), LocalProcesses())


def pod_host(root: str, host_pid: int = 1) -> Host:
    """The machine under a pod: its root mounted at `root`, its namespaces reached through `host_pid`."""
    return Host(Files(root), NamespaceExec(host_pid), LocalProcesses(), host_pid=host_pid)


def tree_host(root: str, source: str = "tree", unreadable: dict[str, str] | None = None) -> Host:
    """A tree of files from some machine: nothing is run, no process is looked at."""
    return Host(Files(root), NoExec(), NoProcesses(), source=source, unreadable=unreadable or {})
