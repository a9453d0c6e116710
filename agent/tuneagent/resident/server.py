"""The daemon's command server: a process with every module loaded that forks one process for each command.

It is forked before the daemon starts a thread or takes a lock, holds no setting and no lock of its own, and ends with
the daemon. A command runs in a process of its own, exactly as it would from the shell: the same entry point, locks,
output and exit code, with the caller's streams, folder, umask and environment.
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
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tuneagent.resident.client import GO, HANDSHAKE_S, LENGTH_BYTES, identity, peer_user

log = logging.getLogger("tuneagent")
MAX_COMMANDS = 8
REQUEST_LIMIT_BYTES = 4 * 1024 * 1024
_STREAMS = 4
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CommandServer:
    """The daemon's end: the server process, which serves from `open` on and ends when this process does."""

    def __init__(self, run: Callable[[list[str]], int]) -> None:
        """Fork the server, with what is loaded now. `run` runs a command line and returns its exit code."""
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

    def open(self, path: str) -> None:
        """Serve on a socket. Where another server answers there already, it stays."""
        with contextlib.suppress(OSError):
            self._line.sendall(os.fsencode(path) + b"\n")

    def close(self) -> None:
        """End the server; commands that run go on to their end."""
        self._line.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _end(work: Callable[[], int]) -> NoReturn:
    """Run the whole of a forked process: nothing of what it was forked from is unwound or run again."""
    code = 1
    try:
        code = work()
    except BaseException as error:
        log.error("command server ended", extra={"fields": {"error": repr(error)}})
    finally:
        os._exit(code)


def _server(line: socket.socket, run: Callable[[list[str]], int]) -> int:
    # Signals are for the daemon; this process ends with it.
    os.setsid()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    own = identity()
    path = _path(line)
    if path is None:
        return 0
    with _listen(path) as listener:
        log.info("commands are served", extra={"fields": {"socket": path}})
        try:
            _serve(line, listener, own, run)
        finally:
            Path(path).unlink(missing_ok=True)
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
    with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        other.connect(path)
        raise FileExistsError(f"{path}: another daemon answers there")
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(MAX_COMMANDS)
    return listener


def _serve(line: socket.socket, listener: socket.socket, own: list[str], run: Callable[[list[str]], int]) -> None:
    commands: set[int] = set()
    while True:
        ready, _, _ = select.select([line, listener], [], [], 1.0 if commands else None)
        while commands and (done := os.waitpid(-1, os.WNOHANG)[0]):
            commands.discard(done)
        if line in ready:
            return
        if listener not in ready:
            continue
        try:
            connection, _ = listener.accept()
            with connection:
                if len(commands) < MAX_COMMANDS and peer_user(connection) == os.geteuid():
                    commands.add(_start(connection, own, run, inherited=(line, listener)))
        except OSError as error:
            # Its caller does the work itself.
            log.warning("command not served", extra={"fields": {"error": str(error)}})


def _start(
    connection: socket.socket, own: list[str], run: Callable[[list[str]], int], inherited: tuple[socket.socket, ...]
) -> int:
    """Fork the process of one command; its number."""
    pid = os.fork()
    if pid == 0:
        for one in inherited:
            one.close()
        _end(lambda: _command(connection, own, run))
    return pid


def _command(connection: socket.socket, own: list[str], run: Callable[[list[str]], int]) -> int:
    """One command, in a process of its own. The caller runs it itself unless it is answered."""
    connection.settimeout(HANDSHAKE_S)
    try:
        fields, descriptors = _receive(connection)
        count = int(fields[0])
        encoding, mask, number, *rest = fields[count + 1 :]
        if fields[1 : count + 1] != own:
            return 0
        connection.sendall(str(os.getpid()).encode())
        if connection.recv(len(GO)) != GO:
            return 0
    except (OSError, ValueError, IndexError):
        return 0
    _take_over(descriptors, encoding, int(mask), rest[int(number) :])
    if not _end_with(connection):
        return 0
    code = run(rest[: int(number)])
    sys.stdout.flush()
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())
    return code


def _receive(connection: socket.socket) -> tuple[list[str], list[int]]:
    head, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, _STREAMS)
    size = int.from_bytes(head, "big")
    if len(head) != LENGTH_BYTES or len(descriptors) != _STREAMS or size > REQUEST_LIMIT_BYTES:
        raise ValueError
    body = bytearray()
    while len(body) < size:
        part = connection.recv(size - len(body))
        if not part:
            raise ValueError
        body += part
    return os.fsdecode(bytes(body)).split("\0"), descriptors


def _take_over(descriptors: list[int], encoding: str, mask: int, environment: list[str]) -> None:
    """Become the caller as far as a command can tell: streams, folder, umask, environment, signals."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.fchdir(descriptors[3])
    for descriptor in descriptors:
        os.close(descriptor)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(dict(variable.split("=", 1) for variable in environment))
    time.tzset()
    sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, encoding=encoding, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, closefd=False, errors="backslashreplace")  # noqa: SIM115 - for as long as the process lives
    # The daemon's log is not the command's.
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _end_with(connection: socket.socket) -> bool:
    """Have the kernel send SIGTERM once the caller is gone. False where it is gone already."""
    connection.setblocking(True)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
