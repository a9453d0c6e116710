"""Unified kernel images for tests: what they say, and nothing that runs."""

from __future__ import annotations


def image(cmdline: str, release: str) -> bytes:
    """A PE file with the sections of a unified kernel image, and nothing that runs."""
    parts = [(b".osrel", release.encode()), (b".cmdline", cmdline.encode()), (b".linux", b"MZ" + bytes(64))]
    head = bytearray(b"MZ" + bytes(0x3A) + (0x80).to_bytes(4, "little") + bytes(0x40))
    head += b"PE\0\0" + (0x8664).to_bytes(2, "little") + len(parts).to_bytes(2, "little") + bytes(12)
    head += (0xF0).to_bytes(2, "little") + bytes(2) + (0x20B).to_bytes(2, "little") + bytes(0xF0 - 2)
    start, body, rows = 0x400, b"", b""
    for name, data in parts:
        size = -(-len(data) // 512) * 512
        rows += name.ljust(8, b"\0")
        rows += b"".join(value.to_bytes(4, "little") for value in (len(data), 0x1000, size, start + len(body)))
        rows += bytes(16)
        body += data.ljust(size, b"\0")
    return (bytes(head) + rows).ljust(start, b"\0") + body
