"""Asks the daemon's command server to run a command. Imports little: this is most of what a short command costs.

One connection carries one command. The request is a length of four bytes and fields separated by NUL (identity,
encoding, umask, arguments, environment; lists with their length before them); standard input, output, error and the
current folder are passed as descriptors. The server answers with the process that would run it and waits for `GO`, so
that a command is never run twice; then it answers with the exit code.
"""

from __future__ import annotations

import os
import sys

from tuneagent import __version__

# As in `typing`, which would load regular expressions with it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets

SOCKET = "/run/tuneagent/commands.sock"
SOCKET_VARIABLE = "TUNEAGENT_SOCKET"
# Commands about this machine that programs call often. The others load what they need themselves.
SERVED = ("audit", "plan", "apply")
GO = b"go"
LENGTH_BYTES = 4
# To connect, send and be answered; the command itself may take what it takes.
HANDSHAKE_S = 2.0


def socket_path() -> str:
    """Where the daemon listens; empty for nowhere."""
    return os.environ.get(SOCKET_VARIABLE, SOCKET)


def is_served(arguments: list[str]) -> bool:
    """Whether a command line is one that the server takes."""
    command = arguments[2:] if arguments[:1] == ["--state-dir"] else arguments
    return bool(command) and command[0] in SERVED and "_TUNEAGENT_COMPLETE" not in os.environ


def identity() -> list[str]:
    """What must be the same for a command to have the same result in another process: the program and its view."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    root = os.stat("/")
    namespaces = [os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))]
    return [__version__, sys.executable, package, str(os.stat(package).st_mtime_ns), f"{root.st_ino}", *namespaces]


def ask(arguments: list[str]) -> int | None:
    """Have the daemon run a command. Its exit code, or None where no daemon is there that would do the same."""
    path = socket_path()
    if not path or not is_served(arguments) or None in (sys.stdin, sys.stdout, sys.stderr) or not os.path.exists(path):
        return None
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(HANDSHAKE_S)
            connection.connect(path)
            if peer_user(connection) != os.geteuid():
                return None
            _send(connection, _request(arguments))
            pid = int(connection.recv(32) or b"0")
        except (OSError, ValueError):
            return None
        return _finish(connection, pid) if pid else None


def peer_user(connection: sockets.socket) -> int:
    """The user at the other end of a connection."""
    import socket

    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _request(arguments: list[str]) -> bytes:
    mask = os.umask(0o077)
    os.umask(mask)
    own = identity()
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    fields = [str(len(own)), *own, sys.stdout.encoding, str(mask), str(len(arguments)), *arguments, *environment]
    return os.fsencode("\0".join(fields))


def _send(connection: sockets.socket, body: bytes) -> None:
    import socket

    folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [len(body).to_bytes(LENGTH_BYTES, "big")], [0, 1, 2, folder])
        connection.sendall(body)
    finally:
        os.close(folder)


def _finish(connection: sockets.socket, pid: int) -> int:
    """Let the command begin, hand signals on to it, wait for its exit code."""
    import signal

    sent: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        del frame
        sent.append(number)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    try:
        connection.sendall(GO)
        connection.settimeout(None)
        code = connection.recv(8)
    except OSError:
        code = b""
    if code:
        return int(code)
    if sent:
        # The command was ended by it: so is this process.
        signal.signal(sent[-1], signal.SIG_DFL)
        os.kill(os.getpid(), sent[-1])
    sys.stderr.write("tuneagent: the daemon ended while it ran this; `tuneagent journal` says what was written\n")
    return 1
