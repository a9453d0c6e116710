"""PCI configuration space as sysfs gives it: capabilities and the few registers that matter to a GPU's path.

Offsets and bits: include/uapi/linux/pci_regs.h. Without root only the first 64 bytes are given.
"""

from __future__ import annotations

import msgspec

_STATUS, _CAPABILITY_LIST, _CAPABILITIES = 0x06, 0x10, 0x34
_PCI_EXPRESS, _ACCESS_CONTROL = 0x10, 0x000D
_EXTENDED = 0x100
# A list that is longer than this has a loop.
_LIMIT = 96


class DeviceControl(msgspec.Struct, frozen=True):
    """Device Control register: sizes in bytes."""

    max_payload: int
    max_read_request: int
    relaxed_ordering: bool


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")


def capability(data: bytes, wanted: int) -> int | None:
    """Offset of a capability in the first 256 bytes; None where it is not there. Raises ValueError if cut off."""
    if len(data) < 64:
        raise ValueError("shorter than a header")
    if not _word(data, _STATUS) & _CAPABILITY_LIST:
        return None
    offset = data[_CAPABILITIES] & ~3
    for _ in range(_LIMIT):
        if offset == 0:
            return None
        if offset + 2 > len(data):
            raise ValueError("capabilities cannot be read (root sees them)")
        if data[offset] == wanted:
            return offset
        offset = data[offset + 1] & ~3
    raise ValueError("the capability list runs in a circle")


def extended_capability(data: bytes, wanted: int) -> int | None:
    """Offset of an extended capability; None where it is not there. Raises ValueError if cut off."""
    if len(data) <= _EXTENDED:
        raise ValueError("extended capabilities cannot be read (root sees them, on PCI Express)")
    offset = _EXTENDED
    for _ in range(_LIMIT):
        if offset + 4 > len(data):
            raise ValueError("extended capabilities are cut off")
        header = int.from_bytes(data[offset : offset + 4], "little")
        if header in (0, 0xFFFFFFFF):
            return None
        if header & 0xFFFF == wanted:
            return offset
        offset = header >> 20
        if offset == 0:
            return None
    raise ValueError("the capability list runs in a circle")


def device_control(data: bytes) -> DeviceControl | None:
    """Device Control of a PCI Express function; None for another. Raises ValueError."""
    base = capability(data, _PCI_EXPRESS)
    if base is None:
        return None
    if base + 10 > len(data):
        raise ValueError("the PCI Express capability is cut off")
    register = _word(data, base + 8)
    return DeviceControl(128 << (register >> 5 & 7), 128 << (register >> 12 & 7), bool(register & 0x10))


def redirects_requests(data: bytes) -> bool | None:
    """Whether ACS sends peer requests up to the root complex; None where there is no ACS. Raises ValueError."""
    base = extended_capability(data, _ACCESS_CONTROL)
    if base is None:
        return None
    if base + 8 > len(data):
        raise ValueError("the ACS capability is cut off")
    # Request redirect is bit 2 of ACS Control, completion redirect bit 3.
    return bool(_word(data, base + 6) & 0x0C)
