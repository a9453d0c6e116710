"""Paths given on the command line: always on this machine, whichever host a command is about."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tuneagent.errors import ReadFailed, UsageError, WriteFailed


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


def read_given(path: str, limit_bytes: int) -> bytes:
    """The same of a file that someone named. Raises UsageError where there is none."""
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise UsageError(f"{path}: not a regular file")
    try:
        return read_whole(path, limit_bytes)
    except ReadFailed as error:
        raise UsageError(str(error)) from None


def refuse_new_file(path: str, option: str, *, may_exist: bool = False) -> None:
    """Raise UsageError where no file of that name could be written, before hours of work are put into it."""
    folder = os.path.dirname(absolute(path))
    if path in ("", "-"):
        raise UsageError(f"{option}: expected the name of a file")
    if os.path.islink(path):
        raise UsageError(f"{option} {path}: is a link; name the file itself")
    if os.path.exists(path) and not may_exist:
        raise UsageError(f"{option} {path}: is there already; remove it, or name another file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{option} {path}: not a regular file")
    if not os.path.isdir(folder):
        raise UsageError(f"{option} {path}: no such folder")
    # A folder such as /proc, where nothing can be made, is told by trying.
    if not os.path.exists(path):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.unlink(path)
        except OSError as error:
            raise UsageError(f"{option} {path}: {error.strerror}") from None
    elif not os.access(path, os.W_OK):
        raise UsageError(f"{option} {path}: it cannot be written")


def write_output(path: str, data: bytes, *, is_new: bool) -> None:
    """Write a file that was named on the command line, never through a link. Raises WriteFailed."""
    _output(path, data, os.O_EXCL if is_new else os.O_TRUNC)


def append_output(path: str, data: bytes) -> None:
    """Append to a file that was named on the command line, never through a link. Raises WriteFailed."""
    _output(path, data, os.O_APPEND)


def _output(path: str, data: bytes, how: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | how, 0o644)
        with open(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise WriteFailed(f"{path}: {error.strerror}") from None


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
