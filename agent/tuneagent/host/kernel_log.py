"""The kernel's own messages, read from its device: running dmesg takes longer than reading them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator

_DEVICE = "/dev/kmsg"
_NUMBER = os.makedev(1, 11)
DMESG = ("dmesg", "--level=emerg,alert,crit,err,warn", "--notime")
# The longest record that the kernel hands out (CONSOLE_EXT_LOG_MAX in its printk).
_RECORD_BYTES = 8192
# A log that grows while it is read would otherwise never end.
_RECORDS_LIMIT = 200_000
_WARNING = 4


def device_warnings() -> str | None:
    """Messages of level warning and worse, one a line, since the log was last cleared, as `DMESG` prints them.

    None where the device is not there or may not be read. The format of a record is that of the kernel document
    ABI/testing/dev-kmsg.
    """
    try:
        descriptor = os.open(_DEVICE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        # A container may have an empty file or /dev/null in its place.
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NUMBER:
            return None
        os.lseek(descriptor, 0, os.SEEK_DATA)
        return warnings_of(records(descriptor))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def records(descriptor: int) -> Iterator[bytes]:
    """Each record that is there now. One read gives one record."""
    for _ in range(_RECORDS_LIMIT):
        try:
            record = os.read(descriptor, _RECORD_BYTES)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # The kernel has overwritten the next record. The read after it gives the oldest that is left.
            continue
        if not record:
            return
        yield record


def warnings_of(found: Iterable[bytes]) -> str:
    """The text of each record `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT` of level warning and worse."""
    kept = []
    for record in found:
        priority = record.partition(b",")[0]
        if priority.isdigit() and int(priority) & 7 <= _WARNING:
            # The lines after the first are the record's properties.
            kept.append(record.partition(b";")[2].partition(b"\n")[0])
    whole = b"".join(text + b"\n" for text in kept)
    # The kernel escapes the backslash, and whatever is not printable ASCII, as \x and two digits.
    spelt = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes((int(match[1], 16),)), whole) if b"\\x" in whole else whole
    return spelt.decode(errors="replace")
