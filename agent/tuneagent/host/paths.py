"""Paths given on the command line: always on this machine, whichever host a command is about."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tuneagent.errors import ReadFailed


def absolute(path: str) -> str:
    """The path from the root of this machine."""
    return os.path.abspath(path)


def is_file(path: str) -> bool:
    """Whether a regular file is there."""
    return os.path.isfile(path)


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    return os.path.isdir(path)


def exists(path: str) -> bool:
    """Whether anything is there."""
    return os.path.exists(path)


def names(path: str) -> list[str]:
    """What a folder holds. Raises ReadFailed."""
    try:
        return os.listdir(path)
    except OSError as error:
        raise ReadFailed(f"{path}: {error.strerror}") from None


def read_whole(path: str, limit_bytes: int) -> bytes:
    """A file's content. Raises ReadFailed where it cannot be read or is larger than `limit_bytes`."""
    try:
        with open(path, "rb") as handle:
            data = handle.read(limit_bytes + 1)
    except OSError as error:
        raise ReadFailed(f"{path}: {error.strerror}") from None
    if len(data) > limit_bytes:
        raise ReadFailed(f"{path}: larger than {limit_bytes} bytes")
    return data


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder of our own, removed at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tuneagent-") as folder:
        yield folder


@contextlib.contextmanager
def temporary_file(data: bytes) -> Iterator[str]:
    """A file that only this user can read, removed at the end: for libraries that take a path."""
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="tuneagent-") as handle:
        handle.write(data)
        handle.flush()
        yield handle.name


def program(name: str) -> str | None:
    """Where a program lies on PATH."""
    import shutil

    return shutil.which(name)
