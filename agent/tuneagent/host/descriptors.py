"""Calls on one name in an open folder. None follows a link, none blocks, and each checks the file type before use."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from tuneagent.errors import ReadFailed, WriteFailed

# No file that tuneagent reads is larger; a larger one is not what it claims to be.
READ_LIMIT_BYTES = 4 * 1024 * 1024
SUFFIX = ".tuneagent"
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# The errors for a link with O_NOFOLLOW, and with O_DIRECTORY added.
IS_LINK = (errno.ELOOP, errno.ENOTDIR)
# Whatever the umask is: the program that reads a folder of drop-ins may run as someone else.
_FOLDER_MODE = stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH
# The kernel computes these from the content: those of the old content would be wrong.
_OF_CONTENT = ("security.ima", "security.evm")


def reason_of_os_error(error: OSError) -> str:
    """`ENOSPC No space left on device`."""
    return f"{errno.errorcode.get(error.errno or 0, 'EIO')} {error.strerror or error}"


def shown(path: str) -> str:
    """A path as people write it, whatever root it is under."""
    return "/" + path.lstrip("/")


def opened_folder(name: str, folder: int | None, opened: list[int]) -> int:
    """Descriptor of a folder, noted in `opened`. Raises OSError, one of IS_LINK for a link."""
    opened.append(descriptor := os.open(name, _FOLDER, dir_fd=folder))
    return descriptor


def close_all(opened: list[int]) -> None:
    """Close what `opened_folder` noted."""
    for descriptor in opened:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def link_target(folder: int, name: str) -> str | None:
    """Where a link leads; None if it is not a link."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None


def status_of(folder: int, name: str) -> os.stat_result:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return found


def content(path: str, folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | SAFE, dir_fd=folder)
    try:
        # A pipe or device in a tree from somewhere else could block for ever.
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ReadFailed(f"{shown(path)}: not a regular file")
        pieces: list[bytes] = []
        total = 0
        while piece := os.read(descriptor, 65536):
            total += len(piece)
            if total > READ_LIMIT_BYTES:
                raise ReadFailed(f"{shown(path)}: larger than {READ_LIMIT_BYTES} bytes")
            pieces.append(piece)
        return b"".join(pieces)
    except OSError as error:
        # Not missing, whatever error the read gives: the file exists.
        raise ReadFailed(f"{shown(path)}: {reason_of_os_error(error)}") from None
    finally:
        os.close(descriptor)


def part(path: str, folder: int, name: str, start: int, size: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | SAFE, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ReadFailed(f"{shown(path)}: not a regular file")
        return os.pread(descriptor, min(size, READ_LIMIT_BYTES), start)
    except OSError as error:
        raise ReadFailed(f"{shown(path)}: {reason_of_os_error(error)}") from None
    finally:
        os.close(descriptor)


def listed(folder: int, name: str) -> list[str]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | SAFE, dir_fd=folder)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _flush_folder(folder: int) -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(name: str) -> str:
    return f".{name}.{os.urandom(6).hex()}{SUFFIX}"


def replace_at(path: str, folder: int, name: str, data: bytes, mode: int | None) -> None:
    try:
        before: int | None = os.open(name, os.O_RDONLY | SAFE, dir_fd=folder)
    except FileNotFoundError:
        before = None
    temporary = _temporary(name)
    try:
        if before is not None and not stat.S_ISREG(os.fstat(before).st_mode):
            raise WriteFailed(f"{shown(path)}: not a regular file")
        _write_new(temporary, folder, data, mode, before)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        if before is not None:
            os.close(before)
    _flush_folder(folder)


def _write_new(name: str, folder: int, data: bytes, mode: int | None, like: int | None) -> None:
    """A new file, flushed, that has its owner, mode and attributes before it has content."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o600, dir_fd=folder)
    try:
        if like is not None:
            found = os.fstat(like)
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            _copy_attributes(like, descriptor)
            mode = stat.S_IMODE(found.st_mode) if mode is None else mode
        os.fchmod(descriptor, 0o644 if mode is None else mode)
        _write_whole(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_attributes(source: int, target: int) -> None:
    try:
        names = os.listxattr(source)
    except OSError:
        # A file system without extended attributes has none to keep.
        return
    for name in names:
        value = os.getxattr(source, name)
        if name in _OF_CONTENT:
            continue
        with contextlib.suppress(OSError):
            if os.getxattr(target, name) == value:
                continue
        os.setxattr(target, name, value)


def make_with_folders(above: int, last: str, steps: list[str], data: bytes, mode: int | None) -> None:
    """Create folders and the file in the last of them under another name, then rename them in one step."""
    opened: list[int] = []
    try:
        parent = opened_folder(last, above, opened)
        temporary = _temporary(steps[0])
        try:
            place, name = parent, temporary
            for below in steps[1:]:
                os.mkdir(name, 0o755, dir_fd=place)
                place = opened_folder(name, place, opened)
                os.chmod(".", _FOLDER_MODE, dir_fd=place)
                name = below
            _write_new(name, place, data, mode, None)
            _flush_folder(place)
            os.rename(temporary, steps[0], src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove_all(parent, temporary)
            raise
        _flush_folder(parent)
    finally:
        close_all(opened)


def create_at(folder: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, mode, dir_fd=folder)
    try:
        _write_whole(descriptor, data)
    finally:
        os.close(descriptor)


def remove_at(folder: int, name: str) -> None:
    os.unlink(name, dir_fd=folder)
    _flush_folder(folder)


def remove_tree_at(folder: int, name: str) -> None:
    temporary = _temporary(name)
    os.rename(name, temporary, src_dir_fd=folder, dst_dir_fd=folder)
    _remove_all(folder, temporary)
    _flush_folder(folder)


def _remove_all(folder: int, name: str) -> None:
    """A file, or a folder with everything in it; links are removed, never followed."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | SAFE, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=folder)
        return
    try:
        for inner in os.listdir(descriptor):
            _remove_all(descriptor, inner)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=folder)


def sweep_at(folder: int, prefix: str) -> None:
    for name in listed(folder, "."):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            _remove_all(folder, name)


def make_folder_at(folder: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, mode, dir_fd=folder)
    except FileExistsError:
        if not stat.S_ISDIR(status_of(folder, name).st_mode):
            raise


def open_own(path: str, folder: int, name: str) -> int:
    """A file of our own, made where it is missing; never a link, a pipe or a device."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | SAFE, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise WriteFailed(f"{shown(path)}: a symbolic link, not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise WriteFailed(f"{shown(path)}: not a regular file")
    return descriptor


def append_at(path: str, folder: int, name: str, data: bytes, *, sync: bool) -> None:
    descriptor = open_own(path, folder, name)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_whole(descriptor, data)
            if sync:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
