"""Asks the daemon's command server to run a command. Imports little: this is most of what a short command costs.

One connection carries one command. The request is a length of four bytes and fields separated by NUL (lists with their
length before them). The server answers with the process that would run it and waits for `GO`, so that a command is
never run twice. With `GO` come standard input, output, error and the current folder as descriptors, not before: nobody
else must hold the end of a pipe while the caller does the work itself. Then the server answers with the exit code.
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
# Descriptors of the caller's under these names are not passed on.
_OWN_DESCRIPTORS = ("/dev/fd/", "/proc/self/", "/proc/thread-self/")
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
    if not command or command[0] not in SERVED or "_TUNEAGENT_COMPLETE" in os.environ:
        return False
    return not any(name in argument for name in _OWN_DESCRIPTORS for argument in arguments)


def program() -> list[str]:
    """What must be the same for two processes to run the same program: interpreter, packages and their state."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [package, *(f"{package}/{name}" for name in sorted(os.listdir(package)) if "." not in name)]
    # The first entry is the folder of the script, or the current one.
    stamps = [_stamp(path) for path in (sys.executable, *sys.path[1:], *folders)]
    return [__version__, *stamps]


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return path
    return f"{path} {found.st_ino} {found.st_mtime_ns}"


def ask(arguments: list[str]) -> int | None:
    """Have the daemon run a command. Its exit code, or None where no daemon is there that would do the same."""
    path = socket_path()
    if not path or not is_served(arguments) or None in (sys.stdin, sys.stdout, sys.stderr) or not os.path.exists(path):
        return None
    import signal
    import socket

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = [int(number) for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(HANDSHAKE_S)
            connection.connect(path)
            if peer(connection)[1] != os.geteuid():
                return None
            body = _request(arguments, ignored)
            connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)
            pid = int(connection.recv(32) or b"0")
            command = os.pidfd_open(pid) if pid else -1
        except (OSError, ValueError):
            return None
        if command < 0:
            return None
        try:
            return _finish(connection, command, [number for number in numbers if number not in ignored])
        finally:
            os.close(command)


def peer(connection: sockets.socket) -> tuple[int, int]:
    """Process and user at the other end of a connection, as the kernel says."""
    import socket

    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def _request(arguments: list[str], ignored: list[int]) -> bytes:
    mask = os.umask(0o077)
    os.umask(mask)
    streams = [f"{stream.encoding} {stream.errors}" for stream in (sys.stdin, sys.stdout, sys.stderr)]
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    lists = [program(), streams, [str(number) for number in ignored], arguments, environment]
    fields = [str(mask)]
    for one in lists:
        fields += [str(len(one)), *one]
    return os.fsencode("\0".join(fields))


def _send_go(connection: sockets.socket) -> None:
    import socket

    folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [GO], [0, 1, 2, folder])
    finally:
        os.close(folder)


def _finish(connection: sockets.socket, command: int, numbers: list[int]) -> int | None:
    """Let the command begin, hand signals on to it, wait for its exit code. None if it did not begin."""
    import signal

    sent: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        del frame
        sent.append(number)
        try:
            signal.pidfd_send_signal(command, number)
        except ProcessLookupError:
            pass

    before = {number: signal.signal(number, hand_on) for number in numbers}
    began = True
    code = b""
    try:
        _send_go(connection)
        connection.settimeout(None)
        code = connection.recv(8)
    except (BrokenPipeError, ConnectionResetError):
        # The other end is closed, with `GO` not taken up.
        began = False
    if code:
        return int(code)
    for number, handler in before.items():
        signal.signal(number, handler)
    if sent:
        # The command was ended by it: so is this process.
        signal.signal(sent[-1], signal.SIG_DFL)
        os.kill(os.getpid(), sent[-1])
    if not began:
        return None
    sys.stderr.write("tuneagent: the process that ran this ended; `tuneagent journal` says what was written\n")
    return 1
