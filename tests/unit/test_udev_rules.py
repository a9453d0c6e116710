"""Rules of udev, where 20,000 random sets compared with `udevadm test` showed a difference once."""

from __future__ import annotations

import pytest
from tuneagent.contracts.values import Absent, Observation, Value
from tuneagent.formats.udev_rules import Device, Named, of_attribute, parse, written

ATTRIBUTES = {"tx_queue_len": "5", "gro_flush_timeout": "", "ifalias": "word  "}
SETS_IT = 'ATTR{tx_queue_len}="7"\nATTR{tx_queue_len}=="5", ATTR{ifalias}="read before"\n'


def device(subsystem: str) -> Device:
    def attribute(name: str) -> Observation:
        return Value(ATTRIBUTES[name]) if name in ATTRIBUTES else Absent("no such attribute")

    return Device([Named("lo", subsystem, "", attribute)], {})


@pytest.mark.parametrize(
    ("line", "subsystem", "reads"),
    [
        # udev reads an attribute once, and only for a line that does something on the device.
        ('ATTR{tx_queue_len}=="5", TAG+="t"', "net", True),
        ('ATTR{tx_queue_len}=="5", LABEL="here"', "net", False),
        ('ATTR{tx_queue_len}=="5", OPTIONS+="x"', "net", False),
        ('ATTR{tx_queue_len}=="5", OPTIONS+="watch"', "net", True),
        ('ATTR{tx_queue_len}=="5", GOTO="nowhere"', "net", False),
        ('ATTR{tx_queue_len}=="5", GOTO="next"\nLABEL="next"', "net", True),
        ('ATTR{tx_queue_len}=="5", MODE="0600"', "net", False),
        ('ATTR{tx_queue_len}=="5", MODE="0600"', "block", True),
        ('ATTR{tx_queue_len}=="5", SYMLINK+="x"', "pci", False),
        ('ATTR{tx_queue_len}=="5", NAME="lo"', "net", True),
        ('ATTR{tx_queue_len}=="5", NAME="lo"', "block", False),
    ],
)
def test_a_line_reads_an_attribute_only_if_it_does_something(line: str, subsystem: str, reads: bool) -> None:
    found = written([parse(f"{line}\n{SETS_IT}", "a.rules")], device(subsystem))
    assert of_attribute(found, "ifalias").text == ("read before" if reads else None)
