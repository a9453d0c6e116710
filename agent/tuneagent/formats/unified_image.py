"""Unified kernel images: the sections of a PE file that say what the kernel is told (UAPI.5, microsoft PE/COFF)."""

from __future__ import annotations

_PE_AT, _SECTION_BYTES, _SECTIONS_LIMIT = 0x3C, 40, 96
# The part of an image that its headers are in.
HEAD_BYTES = 64 * 1024


def section_places(head: bytes) -> dict[str, tuple[int, int]]:
    """Place and size in the file of each section, from its first HEAD_BYTES. Raises ValueError for no PE file."""
    at = int.from_bytes(head[_PE_AT : _PE_AT + 4], "little")
    if head[:2] != b"MZ" or head[at : at + 4] != b"PE\0\0":
        raise ValueError("not a PE file")
    count = int.from_bytes(head[at + 6 : at + 8], "little")
    table = at + 24 + int.from_bytes(head[at + 20 : at + 22], "little")
    if count > _SECTIONS_LIMIT or len(head) < table + count * _SECTION_BYTES:
        raise ValueError("a PE file whose table of sections is cut")
    found: dict[str, tuple[int, int]] = {}
    for number in range(count):
        row = head[table + number * _SECTION_BYTES :][:_SECTION_BYTES]
        size, raw_size, place = (int.from_bytes(row[start : start + 4], "little") for start in (8, 16, 20))
        name = row[:8].rstrip(b"\0").decode("ascii", "replace")
        if name == ".profile" or name in found:
            raise ValueError("a unified kernel image of several profiles is not followed")
        found[name] = (place, min(size, raw_size))
    return found
