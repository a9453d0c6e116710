"""The daemon's command server: the same answer as without it, or none; never twice, never without a caller."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuneagent.resident.client import LENGTH_BYTES, SERVED, is_served
from tuneagent.resident.server import MAX_COMMANDS, CommandServer

NOT_SERVED = 99
# What the server of these tests runs: each case is an argument after `audit`.
SERVER = """
import os, signal, sys, time
from pathlib import Path
from tuneagent.resident.server import CommandServer

def run(arguments):
    case = arguments[1]
    if case == "show":
        Path("seen").write_text("1")
        print(os.getcwd(), os.environ.get("SHOWN"), oct(os.umask(0)), sys.stdin.read())
        print("error", file=sys.stderr)
        return 3
    if case == "wait":
        Path("running").write_text(str(os.getpid()))
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            return 130
    if case == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "raise":
        raise RuntimeError("broken")
    if case == "slow":
        time.sleep(0.5)
        Path("finished").write_text("1")
    if case == "limits":
        import resource
        print(resource.getrlimit(resource.RLIMIT_NOFILE), os.sched_getaffinity(0), os.nice(0))
    if case == "print":
        print(arguments[2])
    return 0

server = CommandServer(run)
Path(sys.argv[1]).parent.mkdir(mode=0o700, exist_ok=True)
Path(sys.argv[1] + ".pid").write_text(str(server._pid))
server.open(sys.argv[1])
sys.stdin.read()
server.close()
"""
CLIENT = f"""
import sys
from tuneagent.resident.client import ask
code = ask(sys.argv[1:])
sys.exit({NOT_SERVED} if code is None else code)
"""


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(500):
        if happened():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def start_server(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SERVER, path], stdin=subprocess.PIPE, text=True)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run" / "s"
    process = start_server(path)
    wait_for(path.exists)
    yield path
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert not path.exists()


def settings_of(path: Path, more: dict[str, str]) -> dict[str, object]:
    return {"cwd": path.parents[1], "text": True, "env": {**os.environ, **more, "TUNEAGENT_SOCKET": str(path)}}


def ask(path: Path, *arguments: str, code: str = CLIENT, **more: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], input="from stdin", capture_output=True, timeout=10, check=False,
        **settings_of(path, more),
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@contextlib.contextmanager
def waiting(path: Path, code: str = CLIENT) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A caller whose command waits, and the process that runs the command."""
    running = path.parents[1] / "running"
    with subprocess.Popen([sys.executable, "-c", code, "audit", "wait"], **settings_of(path, {})) as caller:  # type: ignore[call-overload]
        wait_for(lambda: running.exists() and bool(running.read_text()))
        yield caller, int(running.read_text())
        caller.kill()


def test_a_command_has_the_callers_streams_folder_environment_and_umask(served: Path) -> None:
    before = os.umask(0o027)
    try:
        asked = ask(served, "audit", "show", SHOWN="it is\nso")
    finally:
        os.umask(before)
    assert (asked.returncode, asked.stderr) == (3, "error\n")
    assert asked.stdout == f"{served.parents[1]} it is\nso 0o27 from stdin\n"
    assert served.stat().st_mode & 0o777 == 0o600
    assert served.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "arguments",
    [[], ["undo"], ["run", "--", "audit"], ["daemon"], ["--root", "/x", "audit"], ["audit", "-f", "/dev/fd/3"]],
)
def test_other_commands_are_not_served(arguments: list[str]) -> None:
    assert not is_served(arguments)


def test_which_commands_are_served() -> None:
    assert all(is_served([name]) and is_served(["--state-dir", "/x", name, "-o", "json"]) for name in SERVED)


def test_without_a_server_the_caller_does_it_itself(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "s"
    assert ask(path, "audit", "show").returncode == NOT_SERVED
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert ask(path, "audit", "show").returncode == NOT_SERVED


@pytest.mark.parametrize("own", [["/usr/bin/python3"], ["0.0.0"]])
def test_another_program_is_not_served(served: Path, own: list[str]) -> None:
    wrong = f"import tuneagent.resident.client as it\nit.program = lambda: {own}\n{CLIENT}"
    asked = ask(served, "audit", "show", code=wrong)
    assert asked.returncode == NOT_SERVED
    assert not (served.parents[1] / "seen").exists()


def test_a_caller_that_does_not_say_go_gets_nothing_done(served: Path) -> None:
    hasty = f"import tuneagent.resident.client as it\nit._finish = lambda connection, command, numbers: 7\n{CLIENT}"
    asked = ask(served, "audit", "show", code=hasty)
    assert asked.returncode == 7
    assert ask(served, "audit", "raise").returncode == 1
    assert not (served.parents[1] / "seen").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its view of the machine")
@pytest.mark.parametrize(
    "changed", [["unshare", "-m"], ["setpriv", "--no-new-privs"], ["setpriv", "--bounding-set=-all"]]
)
def test_another_view_or_other_rights_are_not_served(served: Path, changed: list[str]) -> None:
    argv = [*changed, sys.executable, "-c", CLIENT, "audit", "show"]
    asked = subprocess.run(argv, timeout=10, check=False, **settings_of(served, {}))  # type: ignore[call-overload]
    assert asked.returncode == NOT_SERVED
    assert not (served.parents[1] / "seen").exists()


def test_a_command_has_the_callers_limits_affinity_and_priority(served: Path) -> None:
    code = (
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (77, 88))\nos.sched_setaffinity(0, {0})\n"
        f"os.nice(5)\n{CLIENT}"
    )
    assert ask(served, "audit", "limits", code=code).stdout == "(77, 88) {0} 5\n"


def test_a_caller_too_slow_to_say_go_does_it_itself(served: Path) -> None:
    slow = (
        "import time, tuneagent.resident.client as it\nreal = it._finish\n"
        f"it._finish = lambda *a: (time.sleep(3), real(*a))[1]\n{CLIENT}"
    )
    asked = ask(served, "audit", "show", code=slow)
    assert (asked.returncode, asked.stdout, asked.stderr) == (NOT_SERVED, "", "")
    assert not (served.parents[1] / "seen").exists()


def test_what_the_caller_ignores_the_command_ignores(served: Path) -> None:
    ignoring = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{CLIENT}"
    with waiting(served, ignoring) as (caller, command):
        caller.send_signal(signal.SIGHUP)
        os.kill(command, signal.SIGHUP)
        time.sleep(0.3)
        assert caller.poll() is None and not is_gone(command)


def test_a_server_that_hangs_holds_nothing_of_its_callers(served: Path) -> None:
    server = int(Path(f"{served}.pid").read_text())
    os.kill(server, signal.SIGSTOP)
    try:
        # Read to the end of its output, which does not come while someone else holds it open.
        assert ask(served, "audit", "show").returncode == NOT_SERVED
    finally:
        os.kill(server, signal.SIGCONT)
    assert ask(served, "audit", "other").returncode == 0


def test_a_server_that_dies_is_told_of_once(tmp_path: Path) -> None:
    server = CommandServer(lambda arguments: 0)
    server.open(str(tmp_path / "s"))
    assert not server.has_ended()
    os.kill(server._pid, signal.SIGKILL)
    told: list[bool] = []
    wait_for(lambda: told.append(server.has_ended()) or told[-1])  # type: ignore[func-returns-value]
    assert not server.has_ended()
    server.close()


def test_a_fault_of_the_command_is_shown_as_it_is(served: Path) -> None:
    asked = ask(served, "audit", "raise")
    assert asked.returncode == 1 and "RuntimeError: broken" in asked.stderr and "ended" not in asked.stderr


def test_the_streams_have_the_callers_encoding(served: Path) -> None:
    asked = ask(served, "audit", "print", "a \u2192 b", PYTHONIOENCODING="latin-1:replace", PYTHONUTF8="1")
    assert (asked.returncode, asked.stdout) == (0, "a ? b\n")


def test_a_server_without_standard_streams_serves(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    closing = f"import os\nfor number in (1, 2): os.close(number)\n{SERVER}"
    with subprocess.Popen([sys.executable, "-c", closing, path], stdin=subprocess.PIPE) as process:
        wait_for(path.exists)
        assert ask(path, "audit", "print", "here").stdout == "here\n"
        process.communicate(timeout=10)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    path.parent.mkdir()
    path.write_text("mine")
    start_server(path).communicate(timeout=10)
    assert path.read_text() == "mine"


def test_a_server_that_ends_lets_its_commands_finish(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    process = start_server(path)
    wait_for(path.exists)
    with subprocess.Popen([sys.executable, "-c", CLIENT, "audit", "slow"], **settings_of(path, {})) as caller:  # type: ignore[call-overload]
        time.sleep(0.3)
        process.communicate(timeout=10)
        assert caller.wait(10) == 0
    assert (tmp_path / "finished").exists()


@pytest.mark.parametrize(
    "request_", [b"", b"x", b"\xff\xff\xff\xff", (3).to_bytes(LENGTH_BYTES, "big") + b"a\0b", b"\0\0\0\1x"]
)
def test_rubbish_gets_no_answer_and_does_no_harm(served: Path, request_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(served))
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""
    assert ask(served, "audit", "other").returncode == 0


def test_a_command_that_dies_is_a_failure_that_is_said(served: Path) -> None:
    asked = ask(served, "audit", "die")
    assert "the process that ran this ended" in asked.stderr
    assert asked.returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_the_command(served: Path, number: int, code: int) -> None:
    with waiting(served) as (caller, command):
        caller.send_signal(number)
        assert caller.wait(10) == code
        wait_for(lambda: is_gone(command))


def test_a_command_ends_with_its_caller(served: Path) -> None:
    with waiting(served) as (caller, command):
        caller.kill()
        caller.wait(10)
        wait_for(lambda: is_gone(command))


def is_gone(pid: int) -> bool:
    """No process, or one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_more_commands_than_the_limit_are_left_to_their_callers(served: Path) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_COMMANDS):
            stack.enter_context(waiting(served))
            (served.parents[1] / "running").unlink()
        assert ask(served, "audit", "other").returncode == NOT_SERVED
    wait_for(lambda: ask(served, "audit", "other").returncode == 0)


def test_a_second_server_leaves_the_first_its_socket(served: Path) -> None:
    second = start_server(served)
    second.communicate(timeout=10)
    assert ask(served, "audit", "other").returncode == 0


def test_the_server_ends_with_its_daemon_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    process = start_server(path)
    wait_for(path.exists)
    server = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    process.kill()
    process.communicate()
    wait_for(lambda: not Path(f"/proc/{server}").exists() or is_gone(server))
    assert not path.exists()
