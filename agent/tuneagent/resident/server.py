"""The daemon's command server: a process with every module loaded that forks one process for each command.

It is forked before the daemon starts a thread or takes a lock, holds no setting and no lock of its own, and ends with
the daemon. A command runs in a process of its own, exactly as it would from the shell: the same entry point, locks,
output and exit code, as its caller in all that a command can tell but for the cgroup.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import select
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tuneagent.resident.caller import SIGNALS, Request, become, parse, take_streams, view
from tuneagent.resident.client import GO, HANDSHAKE_S, LENGTH_BYTES, peer, program

log = logging.getLogger("tuneagent")
MAX_COMMANDS = 8
REQUEST_LIMIT_BYTES = 4 * 1024 * 1024
# What commands that run have to finish in once the daemon ends; then an apply stops between two tunables.
LEAVE_S = 10.0
_STREAMS = 4
Run = Callable[[list[str]], int]


class CommandServer:
    """The daemon's end: the server process, which serves from `open` on and ends when this process does."""

    def __init__(self, run: Run) -> None:
        """Fork the server, with what is loaded now. `run` runs a command line and returns its exit code."""
        _hold_standard_streams()
        # What is loaded is not looked through again by any process's collector: so its memory stays shared.
        gc.collect()
        gc.freeze()
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _end(lambda: _server(theirs, run))
        theirs.close()
        self._line = ours
        self._ended = False

    def open(self, path: str) -> None:
        """Serve on a socket. Where another server answers there already, it stays."""
        with contextlib.suppress(OSError):
            self._line.sendall(os.fsencode(path) + b"\n")

    def has_ended(self) -> bool:
        """Whether the server has ended by itself; commands are run by their callers then. Told once."""
        if self._ended or os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            return False
        self._ended = True
        return True

    def close(self) -> None:
        """End the server, after the commands that run; those that take long are told to stop."""
        self._line.close()
        if not self._ended:
            os.waitpid(self._pid, 0)


def _hold_standard_streams() -> None:
    """See that nothing else gets the numbers of closed standard streams: a command has its caller's there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def _end(work: Callable[[], int]) -> NoReturn:
    """Run the whole of a forked process: nothing of what it was forked from is unwound or run again."""
    code = 1
    try:
        code = work()
    except BaseException as error:
        log.error("command server ended", extra={"fields": {"error": repr(error)}})
    finally:
        os._exit(code)


def _server(line: socket.socket, run: Run) -> int:
    # Signals are for the daemon; this process ends with it.
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    path = _path(line)
    if path is None:
        return 0
    commands: set[int] = set()
    with _listen(path) as listener:
        log.info("commands are served", extra={"fields": {"socket": path}})
        try:
            _serve(line, listener, run, commands)
        finally:
            Path(path).unlink(missing_ok=True)
    _leave(commands)
    return 0


def _path(line: socket.socket) -> str | None:
    data = b""
    while not data.endswith(b"\n"):
        part = line.recv(4096)
        if not part:
            return None
        data += part
    return os.fsdecode(data[:-1])


def _listen(path: str) -> socket.socket:
    """A socket that this user alone may connect to. Raises OSError."""
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"{path}: not a socket")
        with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(ConnectionRefusedError):
            other.connect(path)
            raise FileExistsError(f"{path}: another daemon answers there")
        Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(MAX_COMMANDS)
    return listener


def _serve(line: socket.socket, listener: socket.socket, run: Run, commands: set[int]) -> None:
    own = program()
    while True:
        ready, _, _ = select.select([line, listener], [], [], 1.0 if commands else None)
        _reap(commands)
        if line in ready:
            return
        if listener not in ready:
            continue
        try:
            connection, _ = listener.accept()
            with connection:
                if len(commands) < MAX_COMMANDS and peer(connection)[1] == os.geteuid():
                    commands.add(_start(connection, own, run, inherited=(line, listener)))
        except OSError as error:
            # Its caller does the work itself.
            log.warning("command not served", extra={"fields": {"error": str(error)}})


def _reap(commands: set[int]) -> None:
    while commands and (done := os.waitpid(-1, os.WNOHANG)[0]):
        commands.discard(done)


def _leave(commands: set[int]) -> None:
    """Let commands finish; tell those that take long to stop. None is cut off in the middle of a setting."""
    end = time.monotonic() + LEAVE_S
    told = False
    while commands:
        time.sleep(0.05)
        _reap(commands)
        if not told and time.monotonic() > end:
            told = True
            for pid in commands:
                os.kill(pid, signal.SIGTERM)


def _start(connection: socket.socket, own: list[str], run: Run, inherited: tuple[socket.socket, ...]) -> int:
    """Fork the process of one command; its number."""
    pid = os.fork()
    if pid == 0:
        for one in inherited:
            one.close()
        _end(lambda: _command(connection, own, run))
    return pid


def _command(connection: socket.socket, own: list[str], run: Run) -> int:
    """One command, in a process of its own. The caller runs it itself unless it is answered."""
    connection.settimeout(HANDSHAKE_S)
    try:
        request = _accept(connection, own)
    except (OSError, ValueError, IndexError, LookupError):
        return 0
    if request is None or not _end_with(connection):
        return 0
    try:
        code = run(request.arguments)
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())
    return code


def _accept(connection: socket.socket, own: list[str]) -> Request | None:
    """Become the caller and wait for its word. None where it is another program, sees another machine, or is gone."""
    request = parse(_receive(connection))
    pid, _ = peer(connection)
    if request.program != own or view(pid) != view("self"):
        return None
    # The daemon's log is not the command's.
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True
    become(pid, request)
    connection.sendall(str(os.getpid()).encode())
    word, descriptors, _, _ = socket.recv_fds(connection, len(GO), _STREAMS)
    if word != GO or len(descriptors) != _STREAMS:
        return None
    take_streams(request, descriptors)
    return request


def _receive(connection: socket.socket) -> bytes:
    head = connection.recv(LENGTH_BYTES)
    size = int.from_bytes(head, "big")
    if len(head) != LENGTH_BYTES or size > REQUEST_LIMIT_BYTES:
        raise ValueError("no request")
    body = bytearray()
    while len(body) < size:
        part = connection.recv(size - len(body))
        if not part:
            raise ValueError("half a request")
        body += part
    return bytes(body)


def _end_with(connection: socket.socket) -> bool:
    """Have the kernel send SIGTERM once the caller is gone. False where it is gone already.

    Asked for after `GO` has come: its arrival would be such a signal too.
    """
    connection.setblocking(True)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
