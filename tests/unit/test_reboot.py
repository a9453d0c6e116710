"""The one way in which a host is rebooted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support import tree
from tuneagent.errors import CommandFailed, WriteFailed
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.node.reboot import reboot_host


class Programs:
    available = True
    label = "played"

    def __init__(self, answer: Completed | Exception) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        self.asked.append(list(argv))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_it_is_a_unit_named_after_the_plan(tmp_path: Path) -> None:
    programs = Programs(Completed(0, "", ""))
    reboot_host(tree(Files(str(tmp_path)), programs), "sha256:0123456789abcdef0123")
    assert programs.asked == [
        [
            "systemd-run",
            "--collect",
            "--unit=tuneagent-0123456789abcdef-reboot",
            "--on-active=10s",
            "systemctl",
            "reboot",
        ]
    ]


@pytest.mark.parametrize("told", ["Unit tuneagent-d-reboot.timer already loaded", "Failed: Unit exists"])
def test_ordered_again_it_is_the_same_unit(tmp_path: Path, told: str) -> None:
    reboot_host(tree(Files(str(tmp_path)), Programs(Completed(1, "", told))), "sha256:d")


def test_one_that_cannot_be_ordered_says_why(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match=r"^reboot: systemd-run: exit 4: Access denied$"):
        reboot_host(tree(Files(str(tmp_path)), Programs(Completed(4, "", "Access denied\n"))), "sha256:d")
    with pytest.raises(WriteFailed) as told:
        reboot_host(tree(Files(str(tmp_path)), Programs(Completed(1, "", "x" * 999))), "sha256:d")
    assert str(told.value) == f"reboot: systemd-run: exit 1: {'x' * 200}"
    with pytest.raises(WriteFailed, match=r"^reboot: no systemd-run$"):
        reboot_host(tree(Files(str(tmp_path)), Programs(CommandFailed("no systemd-run"))), "sha256:d")
