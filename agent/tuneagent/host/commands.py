"""Programs on the host: none (a tree), this machine, or the namespaces of a process of the host."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tuneagent.errors import CommandFailed, NoSystemd

OUTPUT_LIMIT_BYTES = 1024 * 1024
# A program that the host runs must not pick up our own interpreter's or linker's settings.
_KEPT_ENVIRONMENT = ("PATH", "HOME", "DBUS_SYSTEM_BUS_ADDRESS")


class Completed(msgspec.Struct, frozen=True):
    """What a program answered."""

    code: int
    stdout: str
    stderr: str


class Exec(Protocol):
    """Runs programs of the host."""

    @property
    def available(self) -> bool:
        """False where the host is only a tree of files."""

    @property
    def label(self) -> str:
        """How programs are reached, for messages."""

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """Run `argv` with a time limit. Raises CommandFailed where it cannot be started or is too slow."""


class NoExec:
    """A tree or a capture: nothing can be run there."""

    available = False
    label = "none"

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """Always refuses."""
        del timeout_s
        raise CommandFailed(f"{argv[0]} cannot be run on a tree of files; audit the host itself")


NO_SYSTEMD = "systemd does not run here"
_OF_SYSTEMD = ("systemctl", "timedatectl", "systemd-run")


class LocalExec:
    """This machine."""

    available = True
    label = "local"

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """Run on this machine. Without systemd its programs are not run: they would only report that, and slowly."""
        if argv[0] in _OF_SYSTEMD and not os.path.isdir("/run/systemd/system"):
            raise NoSystemd(f"{argv[0]}: {NO_SYSTEMD}")
        return run_bounded(argv, timeout_s)


class NamespaceExec(msgspec.Struct, frozen=True):
    """The mount, uts, ipc, net and pid namespaces of `pid`: the host as seen from a pod with hostPID."""

    pid: int = 1
    available = True

    @property
    def label(self) -> str:
        """Names the process whose namespaces are entered."""
        return f"namespace({self.pid})"

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """Run inside the host's namespaces."""
        done = run_bounded(["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", *argv], timeout_s)
        if argv[0] in _OF_SYSTEMD and "not been booted with systemd" in done.stderr:
            raise NoSystemd(f"{argv[0]}: {NO_SYSTEMD}")
        return done


def run_bounded(
    argv: Sequence[str], timeout_s: float, extra: Mapping[str, str] | None = None, *, is_apart: bool = False
) -> Completed:
    """Run a program with a time limit, a clean environment and bounded output; `is_apart` from a terminal's Ctrl-C.

    Raises CommandFailed. A non-zero exit is an answer, not an error.
    """
    # Many commands run no program, and importing this module is a large part of the start-up time.
    import subprocess

    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    # The output of programs is parsed: it must not depend on the user's language.
    environment["LC_ALL"] = "C.UTF-8"
    environment.update(extra or {})
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
            start_new_session=is_apart,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{argv[0]}: no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise CommandFailed(f"{argv[0]}: {error.strerror}") from None
    return Completed(
        done.returncode,
        done.stdout[:OUTPUT_LIMIT_BYTES].decode(errors="replace"),
        done.stderr[:OUTPUT_LIMIT_BYTES].decode(errors="replace"),
    )


def run_module(module: str, arguments: Sequence[str], timeout_s: float, extra: Mapping[str, str]) -> Completed:
    """Run one of our own modules in a child of the same interpreter, with our own whole environment.

    The child looks for modules where we do and nowhere else: a launcher may have set our path, and a variable that we
    did not obey must not lead the child elsewhere.
    """
    return run_bounded(_module_argv(module, arguments), timeout_s, {**os.environ, **extra})


def _module_argv(module: str, arguments: Sequence[str]) -> list[str]:
    start = f"import sys; sys.path[:] = {sys.path!r}; import runpy; runpy.run_module({module!r}, run_name='__main__')"
    return [sys.executable, "-IS", "-c", start, *arguments]


class Background:
    """One of our own modules that prints lines until its standard input is closed."""

    def __init__(self, module: str, arguments: Sequence[str], extra: Mapping[str, str]) -> None:
        import subprocess

        self._child = subprocess.Popen(
            _module_argv(module, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **extra},
            # Ctrl-C is for what is watched.
            start_new_session=True,
        )
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Whole lines that it has printed since the last call."""
        stream = self._child.stdout
        if stream is None or stream.closed:
            return []
        os.set_blocking(stream.fileno(), False)
        self._rest += (stream.read() or b"")[:OUTPUT_LIMIT_BYTES]
        *whole, self._rest = self._rest.split(b"\n")
        return whole

    def close(self) -> list[bytes]:
        """End it; what it printed in the end."""
        import contextlib
        import subprocess

        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        last = self.lines()
        if self._child.stdout is not None:
            self._child.stdout.close()
        return last
