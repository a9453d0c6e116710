"""Files under one root: bounded reads, single-call writes, atomic replacement, links kept inside the root."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from tuneagent.errors import Locked, PathMissing, ReadFailed, WriteFailed

# No file that a tuner reads is larger; what is, is not what it says it is.
READ_LIMIT_BYTES = 4 * 1024 * 1024
LIST_LIMIT = 65536
LINK_LIMIT = 40
_MISSING = (errno.ENOENT, errno.ENOTDIR)


def _reason(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, 'EIO')} {error.strerror or error}"


def _shown(path: str) -> str:
    """A path as people write it, whatever root it is under."""
    return "/" + path.lstrip("/")


class Files:
    """The tree under `root`. Paths are relative to it; absolute links resolve inside it.

    Raises PathMissing, ReadFailed or WriteFailed, each naming the path as seen under the root.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.realpath(root)

    @property
    def is_kernel(self) -> bool:
        """True where /proc/sys under the root is a kernel's own, not plain files of a tree."""
        return self.root == "/" or os.path.ismount(os.path.join(self.root, "proc"))

    def real(self, path: str, *, follow_last: bool = True) -> str:
        """Path on this machine for `path` under the root, every link resolved inside the root.

        Raises ReadFailed for a path that leaves the root, holds a NUL, or loops.
        """
        if "\0" in path:
            raise ReadFailed(f"{path!r}: path holds a NUL")
        if self.root != "/" and ".." in PurePosixPath(path).parts:
            raise ReadFailed(f"{path!r}: path leaves its root")
        if self.root == "/":
            return "/" + path.lstrip("/")
        pending = [part for part in path.split("/") if part not in ("", ".")]
        resolved: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                # At the root itself `..` stays there, as in a chroot.
                resolved = resolved[:-1]
                continue
            candidate = os.path.join(self.root, *resolved, part)
            if (pending or follow_last) and os.path.islink(candidate):
                links += 1
                if links > LINK_LIMIT:
                    raise ReadFailed(f"{_shown(path)}: more than {LINK_LIMIT} symbolic links (a loop)")
                target = os.readlink(candidate)
                if target.startswith("/"):
                    resolved = []
                pending = [step for step in target.split("/") if step not in ("", ".")] + pending
                continue
            resolved.append(part)
        return os.path.join(self.root, *resolved)

    def read_bytes(self, path: str) -> bytes:
        """Whole content of a regular file of at most READ_LIMIT_BYTES."""
        try:
            descriptor = os.open(self.real(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _MISSING:
                raise PathMissing(f"{_shown(path)}: no such file") from None
            raise ReadFailed(f"{_shown(path)}: {_reason(error)}") from None
        try:
            # A pipe or device in a tree from somewhere else could block for ever.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ReadFailed(f"{_shown(path)}: not a regular file")
            pieces: list[bytes] = []
            total = 0
            while piece := os.read(descriptor, 65536):
                total += len(piece)
                if total > READ_LIMIT_BYTES:
                    raise ReadFailed(f"{_shown(path)}: larger than {READ_LIMIT_BYTES} bytes")
                pieces.append(piece)
            return b"".join(pieces)
        except OSError as error:
            raise ReadFailed(f"{_shown(path)}: {_reason(error)}") from None
        finally:
            os.close(descriptor)

    def read(self, path: str) -> str:
        """Content as text, outer white space removed."""
        raw = self.read_bytes(path)
        try:
            return raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ReadFailed(f"{_shown(path)}: not UTF-8 text") from None

    def read_or(self, path: str, default: str) -> str:
        """Content as text, or `default` where the file does not exist. Still raises ReadFailed."""
        try:
            return self.read(path)
        except PathMissing:
            return default

    def names(self, path: str) -> list[str]:
        """Sorted names in a folder; empty where it does not exist."""
        try:
            found = os.listdir(self.real(path))
        except OSError as error:
            if error.errno in _MISSING:
                return []
            raise ReadFailed(f"{_shown(path)}: {_reason(error)}") from None
        if len(found) > LIST_LIMIT:
            raise ReadFailed(f"{_shown(path)}: more than {LIST_LIMIT} entries")
        return sorted(found)

    def exists(self, path: str) -> bool:
        """True where the path resolves to something inside the root."""
        try:
            return os.path.lexists(self.real(path))
        except ReadFailed:
            return False

    def is_dir(self, path: str) -> bool:
        """True where the path resolves to a folder inside the root."""
        try:
            return os.path.isdir(self.real(path))
        except ReadFailed:
            return False

    def write(self, path: str, text: str) -> None:
        """Write a kernel setting with one write call to a file that exists.

        One call, since the kernel takes each call as a value of its own.
        """
        data = text.encode()
        try:
            descriptor = os.open(self.real(path), os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                written = os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: writing {text.strip()!r}: {_reason(error)}") from None
        if written != len(data):
            raise WriteFailed(f"{_shown(path)}: only {written} of {len(data)} bytes of {text.strip()!r} were taken")

    def replace(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put a whole file in place: written beside it, flushed, renamed, folder flushed."""
        real = self.real(path)
        folder = os.path.dirname(real)
        temporary = _temporary(real)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
            try:
                write_whole(descriptor, data)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, real)
            _sync_folder(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    def is_mask(self, path: str) -> bool:
        """Whether the path is a link to /dev/null, the way to mask a file of that name."""
        try:
            return os.readlink(self.real(path, follow_last=False)) == "/dev/null"
        except (OSError, ReadFailed):
            return False

    def sweep(self, path: str) -> None:
        """Remove what a death in the middle of `replace` left beside `path`."""
        try:
            os.unlink(_temporary(self.real(path)))
        except FileNotFoundError:
            return
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    def create(self, path: str, data: bytes) -> None:
        """Write a plain file that need not survive a crash."""
        try:
            with open(self.real(path), "wb") as handle:
                handle.write(data)
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""
        real = self.real(path, follow_last=False)
        try:
            os.unlink(real)
            _sync_folder(os.path.dirname(real))
        except FileNotFoundError:
            return
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    def remove_empty(self, path: str) -> None:
        """Delete a folder of drop-ins (`NAME.d`) if nothing is in it."""
        if not path.endswith(".d"):
            return
        with contextlib.suppress(OSError, ReadFailed):
            os.rmdir(self.real(path))

    def make_folder(self, path: str, mode: int = 0o700) -> None:
        """Make a folder and its parents, where missing."""
        try:
            os.makedirs(self.real(path), mode=mode, exist_ok=True)
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    def append_synced(self, path: str, data: bytes) -> None:
        """Append to a file and flush it to disk before returning. A short write is taken back."""
        self._append(path, data, sync=True)

    def append(self, path: str, data: bytes) -> None:
        """Append to a file; the next flushed append takes it along. A short write is taken back."""
        self._append(path, data, sync=False)

    def _append(self, path: str, data: bytes, *, sync: bool) -> None:
        try:
            descriptor = os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    write_whole(descriptor, data)
                    if sync:
                        os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None

    @contextlib.contextmanager
    def locked(self, path: str) -> Iterator[None]:
        """Hold an exclusive lock on a file. Raises Locked, naming the holder's pid, if someone has it."""
        try:
            descriptor = os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Locked(f"{_shown(path)}: another tuneagent (pid {holder}) is at work on this host") from None
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except OSError as error:
                raise WriteFailed(f"{_shown(path)}: {_reason(error)}") from None
            yield
        finally:
            os.close(descriptor)

    def is_locked(self, path: str) -> bool:
        """True where some process holds the lock on that file."""
        try:
            descriptor = os.open(self.real(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _temporary(real: str) -> str:
    folder, name = os.path.split(real)
    return os.path.join(folder, f".{name}.tuneagent")


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
