"""The caller of a served command: whether it sees the same machine as this process, and how to become it."""

from __future__ import annotations

import codecs
import os
import re
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Identity and privileges in /proc/PID/status (proc_pid_status(5)).
_PRIVILEGES = re.compile(r"^((?:Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):.*)$", re.MULTILINE)
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]


def view(pid: int | str) -> list[str]:
    """What a process may see and do: namespaces, root, user, capabilities, security label. Raises OSError."""
    base = Path("/proc", str(pid))
    root = (base / "root").stat()
    namespaces = [str(path.readlink()) for path in sorted((base / "ns").iterdir())]
    return [
        f"{root.st_dev}:{root.st_ino}",
        *namespaces,
        *_PRIVILEGES.findall((base / "status").read_text()),
        _label(base),
    ]


def _label(base: Path) -> str:
    try:
        return (base / "attr/current").read_text().strip("\0\n")
    except OSError:
        # No security module answers here; then it answers for no process.
        return ""


@dataclass(frozen=True)
class Request:
    """What a caller asks for, as `client` sends it."""

    umask: int
    program: list[str]
    # Encoding and error handling of standard input, output and error.
    streams: list[tuple[str, str]]
    ignored: list[int]
    arguments: list[str]
    environment: list[str]


def parse(body: bytes) -> Request:
    """A request. Raises ValueError or IndexError for anything else."""
    umask, *fields = os.fsdecode(body).split("\0")
    lists: list[list[str]] = []
    for _ in range(5):
        size = int(fields[0])
        lists.append(fields[1 : size + 1])
        fields = fields[size + 1 :]
    program, streams, ignored, arguments, environment = lists
    pairs = [(encoding, errors) for encoding, _, errors in (text.partition(" ") for text in streams)]
    if len(pairs) != 3:
        raise ValueError("not three streams")
    return Request(int(umask), program, pairs, [int(number) for number in ignored], arguments, environment)


def become(pid: int, request: Request) -> None:
    """Take over umask, environment, limits, affinity, priority and signals. Raises OSError, LookupError."""
    for encoding, errors in request.streams:
        codecs.lookup(encoding)
        codecs.lookup_error(errors)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(dict(variable.split("=", 1) for variable in request.environment))
    time.tzset()
    for limit in _LIMITS:
        resource.setrlimit(limit, resource.prlimit(pid, limit))
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request.ignored else usual)


def take_streams(request: Request, descriptors: list[int]) -> None:
    """Take over standard input, output and error, and the current folder."""
    os.fchdir(descriptors[3])
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    (in_encoding, in_errors), (out_encoding, out_errors), (err_encoding, err_errors) = request.streams
    # They live as long as the process.
    sys.stdin = open(0, encoding=in_encoding, errors=in_errors, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1 if os.isatty(1) else -1, out_encoding, out_errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, err_encoding, err_errors, closefd=False)  # noqa: SIM115
