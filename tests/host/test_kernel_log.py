"""The kernel's messages as we read them, against dmesg: it is right by definition."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tuneagent.host.kernel_log import DMESG, device_warnings

MESSAGES = ("<4>one", "<6>below the level", "<3>two\nlines; and a part", "<12>of a program", "<0>worst \\ of all")


def test_the_log_is_what_dmesg_prints() -> None:
    for message in MESSAGES:
        with Path("/dev/kmsg").open("w", encoding="ascii") as device:
            level, _, text = message.partition(">")
            device.write(f"{level}>tuneagent test: {text}\n")
    found = device_warnings()
    printed = subprocess.run(DMESG, capture_output=True, text=True, check=True, errors="replace").stdout
    assert found is not None
    # dmesg sets the lines of one message off.
    assert [line.strip() for line in found.splitlines()] == [line.strip() for line in printed.splitlines()]
    last = [line.strip() for line in found.splitlines()[-5:]]
    assert last == [
        "tuneagent test: one",
        "tuneagent test: two",
        "lines; and a part",
        "tuneagent test: of a program",
        "tuneagent test: worst \\ of all",
    ]
