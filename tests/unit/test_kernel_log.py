"""The kernel's messages: what of /dev/kmsg is kept, and who is asked where there is no such device."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec
import pytest
from tuneagent.errors import CommandFailed
from tuneagent.host import kernel_log
from tuneagent.host.commands import Completed
from tuneagent.host.kernel_log import records, warnings_of
from tuneagent.host.machine import live_host, tree_host

RECORDS = (
    b"5,0,0,-;Linux version 6.8.0\n",
    b"4,1,100,-;NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.\n SUBSYSTEM=pci\n DEVICE=+pci:0000:1b:00.0\n",
    b"6,2,200,-;usb 1-1: new device\n",
    # 12 is facility 1, level 4: written by a program.
    b"12,3,300,-;first\\x0asecond; third\n",
    b"3,4,400,c;caf\\xc3\\xa9 C:\\x5cx41\n",
    b"no record at all\n",
    b"x,5,500,-;no priority\n",
)


def test_warnings_and_worse_are_kept_without_their_properties() -> None:
    assert warnings_of(RECORDS).splitlines() == [
        "NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.",
        "first",
        "second; third",
        "café C:\\x41",
    ]


def test_every_record_that_is_there_is_read_and_no_more_is_waited_for() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        here.setblocking(False)
        for record in RECORDS:
            there.send(record)
        assert tuple(records(here.fileno())) == RECORDS


def test_a_record_that_was_overwritten_does_not_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((BrokenPipeError(), b"4,9,1,-;left\n", BlockingIOError()))

    def read(descriptor: int, size: int) -> bytes:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(kernel_log.os, "read", read)
    assert tuple(records(3)) == (b"4,9,1,-;left\n",)


def test_a_log_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_log, "_RECORDS_LIMIT", 10)
    monkeypatch.setattr(kernel_log.os, "read", lambda descriptor, size: b"4,9,1,-;again\n")
    assert len(list(records(3))) == 10


class Dmesg:
    """An exec that knows one program."""

    available = True
    label = "played"

    def __init__(self, answer: Completed) -> None:
        self.answer = answer
        self.asked: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        self.asked.append(argv)
        return self.answer


def test_a_host_that_is_not_this_machine_is_asked_by_dmesg(tmp_path: os.PathLike[str]) -> None:
    played = Dmesg(Completed(0, "from dmesg\n", ""))
    host = msgspec.structs.replace(tree_host(str(tmp_path)), exec=played)
    assert host.kernel_warnings() == "from dmesg\n"
    assert played.asked == [("dmesg", "--level=emerg,alert,crit,err,warn", "--notime")]


def test_dmesg_that_may_not_read_says_why(tmp_path: os.PathLike[str]) -> None:
    played = Dmesg(Completed(1, "", "dmesg: read kernel buffer failed: Operation not permitted\n"))
    host = msgspec.structs.replace(tree_host(str(tmp_path)), exec=played)
    with pytest.raises(CommandFailed, match="exit 1: dmesg: read kernel buffer failed: Operation not permitted"):
        host.kernel_warnings()


def test_this_machine_without_the_device_runs_dmesg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    program = f"{tmp_path}/dmesg"
    with open(program, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho ran $*\n")
    os.chmod(program, 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(kernel_log, "_DEVICE", f"{tmp_path}/none")
    assert live_host().kernel_warnings() == "ran --level=emerg,alert,crit,err,warn --notime\n"


def test_a_device_that_is_no_log_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    os.mkfifo(f"{tmp_path}/fifo")
    monkeypatch.setattr(kernel_log, "_DEVICE", f"{tmp_path}/fifo")
    assert kernel_log.device_warnings() is None
