"""Files under one root, by descriptors all the way: what is checked is what is used, and no link leads out of the root.

Reads are bounded. A kernel file is written in place with one call; any other file is replaced by a rename.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from typing import TypeVar

from tuneagent.errors import Locked, PathMissing, ReadFailed, WriteFailed
from tuneagent.host.descriptors import (
    SAFE,
    SUFFIX,
    append_at,
    content,
    create_at,
    link_target,
    listed,
    make_folder_at,
    make_with_folders,
    open_own,
    part,
    reason_of_os_error,
    remove_at,
    remove_tree_at,
    replace_at,
    shown,
    status_of,
    sweep_at,
)
from tuneagent.host.rooted import OpenFolders, reached, steps

T = TypeVar("T")
FileStatus = os.stat_result
LIST_LIMIT = 65536
# How a program begins.
ELF = b"\x7fELF"
_MISSING = (errno.ENOENT, errno.ENOTDIR)


def _read_failed(path: str, error: OSError) -> Exception:
    if error.errno in _MISSING:
        return PathMissing(f"{shown(path)}: no such file")
    return ReadFailed(f"{shown(path)}: {reason_of_os_error(error)}")


def _write_failed(path: str, error: OSError) -> WriteFailed:
    return WriteFailed(
        f"{shown(path)}: {reason_of_os_error(error)}", is_full=error.errno in (errno.ENOSPC, errno.EDQUOT)
    )


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

    # Folders that the reading pass keeps open.
    _known: OpenFolders | None = None

    def for_a_pass(self) -> Files:
        """The same files for one pass, which keeps folders open. Calls that change something resolve the whole path."""
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__)
        found._known = OpenFolders()
        return found

    def forget_folders(self) -> None:
        """Resolve whole paths again: something was written."""
        if self._known is not None:
            self._known.close()

    def _at(self, path: str, use: Callable[[int, str], T], *, follow_last: bool = True) -> T:
        return reached(self.root, path, use, follow_last=follow_last)[0]

    def _look(self, path: str, use: Callable[[int, str], T], *, follow_last: bool = True) -> T:
        return reached(self.root, path, use, follow_last=follow_last, known=self._known)[0]

    def resolved(self, path: str) -> str:
        """The path from the root, `/` first, with every link resolved. Raises PathMissing, ReadFailed."""
        try:
            return "/" + "/".join(reached(self.root, path, status_of)[1])
        except OSError as error:
            raise _read_failed(path, error) from None

    def machine_path(self, path: str) -> str:
        """Where this path lies on this machine, for another program; links are not resolved."""
        return os.path.join(self.root, path.lstrip("/"))

    def read_bytes(self, path: str) -> bytes:
        """Whole content of a regular file of at most READ_LIMIT_BYTES."""
        try:
            return self._look(path, lambda folder, name: content(path, folder, name))
        except OSError as error:
            raise _read_failed(path, error) from None

    def read_part(self, path: str, start: int, size: int) -> bytes:
        """At most `size` bytes of a regular file from a place in it, for files that are larger than others may be."""
        try:
            return self._look(path, lambda folder, name: part(path, folder, name, start, size))
        except OSError as error:
            raise _read_failed(path, error) from None

    def read(self, path: str) -> str:
        """Content as text, outer white space removed."""
        raw = self.read_bytes(path)
        try:
            return raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ReadFailed(f"{shown(path)}: not UTF-8 text") from None

    def read_or(self, path: str, default: str) -> str:
        """Content as text, or `default` where the file does not exist. Still raises ReadFailed."""
        try:
            return self.read(path)
        except PathMissing:
            return default

    def names(self, path: str) -> list[str]:
        """Sorted names in a folder; empty where it does not exist."""
        try:
            found = self._look(path, listed)
        except OSError as error:
            if error.errno in _MISSING:
                return []
            raise _read_failed(path, error) from None
        if len(found) > LIST_LIMIT:
            raise ReadFailed(f"{shown(path)}: more than {LIST_LIMIT} entries")
        return sorted(found)

    def status(self, path: str) -> FileStatus:
        """What the kernel says of the file or folder. Raises PathMissing, ReadFailed."""
        try:
            return self._look(path, status_of)
        except OSError as error:
            raise _read_failed(path, error) from None

    def exists(self, path: str) -> bool:
        """True where the path resolves to something inside the root."""
        try:
            self.status(path)
        except (PathMissing, ReadFailed):
            return False
        return True

    def is_dir(self, path: str) -> bool:
        """True where the path resolves to a folder inside the root."""
        try:
            return stat.S_ISDIR(self.status(path).st_mode)
        except (PathMissing, ReadFailed):
            return False

    def is_link(self, path: str) -> bool:
        """Whether the path itself is a symbolic link."""
        try:
            return self._look(path, link_target, follow_last=False) is not None
        except (OSError, ReadFailed):
            return False

    def is_mask(self, path: str) -> bool:
        """Whether the path is a link to /dev/null, the way to mask a file of that name."""
        try:
            return self._look(path, link_target, follow_last=False) == "/dev/null"
        except (OSError, ReadFailed):
            return False

    def write(self, path: str, text: str) -> None:
        """Write a setting: a kernel file in place with one call, since the kernel takes each call as a value.

        A plain file, as in another machine's tree, is replaced, so that it holds either the old value or the new one.
        """
        data = text.encode()
        try:
            written = self._at(path, lambda folder, name: self._write_at(path, folder, name, data))
        except OSError as error:
            raise WriteFailed(
                f"{shown(path)}: writing {text.strip()!r}: {reason_of_os_error(error)}",
                is_full=error.errno == errno.ENOSPC,
            ) from None
        if written != len(data):
            raise WriteFailed(f"{shown(path)}: only {written} of {len(data)} bytes of {text.strip()!r} were written")

    def _write_at(self, path: str, folder: int, name: str, data: bytes) -> int:
        descriptor = os.open(name, os.O_WRONLY | SAFE, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise WriteFailed(f"{shown(path)}: not a regular file")
            if found.st_dev != os.stat(self.root).st_dev:
                return os.write(descriptor, data)
        finally:
            os.close(descriptor)
        replace_at(path, folder, name, data, None)
        return len(data)

    def replace(self, path: str, data: bytes, mode: int | None = None) -> None:
        """Put a whole file in place: written beside it, flushed, renamed, folder flushed.

        Owner, mode, extended attributes and security label of the file that it replaces are kept; `mode` overrides the
        mode. A new file has `mode`, or 0644. A missing folder is made with it, and both appear at once.
        """
        try:
            folder, _, name = path.strip("/").rpartition("/")
            missing: list[str] = []
            while folder and not self.is_dir(folder):
                folder, _, part = folder.rpartition("/")
                missing.insert(0, part)
            if missing:
                self._at(folder, lambda above, last: make_with_folders(above, last, [*missing, name], data, mode))
            else:
                self._at(path, lambda place, last: replace_at(path, place, last, data, mode))
        except OSError as error:
            raise _write_failed(path, error) from None

    def create(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a new plain file that need not survive a crash."""
        try:
            self._at(path, lambda folder, name: create_at(folder, name, data, mode), follow_last=False)
        except OSError as error:
            raise _write_failed(path, error) from None

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""
        try:
            self._at(path, remove_at, follow_last=False)
        except OSError as error:
            if error.errno not in _MISSING:
                raise _write_failed(path, error) from None

    def remove_with_folder(self, path: str, top: str) -> None:
        """Delete a file, and the folders from `top` down to it where nothing else is in them. Both go at once."""
        below_top = steps(path)[len(steps(top)) - 1 :]
        if any(self.names(top if not below else f"{top}/{'/'.join(below_top[1 : below + 1])}") != [below_top[below + 1]]
               for below in range(len(below_top) - 1)):  # fmt: skip
            self.remove(path)
            return
        try:
            self._at(top, remove_tree_at, follow_last=False)
        except OSError as error:
            raise _write_failed(path, error) from None

    def sweep(self, path: str) -> None:
        """Remove what a crash during `replace` left beside a path, or beside a folder that it was about to create."""
        folder = path.strip("/")
        while folder and not self.is_dir(folder.rpartition("/")[0]):
            folder = folder.rpartition("/")[0]
        name = folder.rpartition("/")[2]
        try:
            self._at(folder, lambda place, _: sweep_at(place, f".{name}."), follow_last=False)
        except OSError as error:
            if error.errno not in _MISSING:
                raise _write_failed(path, error) from None

    def sweep_below(self, top: str) -> None:
        """The same in every folder below `top`: for settings of a tree, whose files lie anywhere in it."""
        for name in self.names(top):
            if self.is_dir(f"{top}/{name}"):
                self.sweep_below(f"{top}/{name}")
            elif name.startswith(".") and name.endswith(SUFFIX):
                self.remove(f"{top}/{name}")

    def make_folder(self, path: str, mode: int = 0o700) -> None:
        """Make a folder and its parents, where missing; the root too."""
        try:
            os.makedirs(self.root, mode, exist_ok=True)
        except OSError as error:
            raise _write_failed("", error) from None
        done = ""
        for name in steps(path):
            done = f"{done}/{name}"
            try:
                self._at(done, lambda folder, name: make_folder_at(folder, name, mode))
            except OSError as error:
                raise _write_failed(path, error) from None

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        """Append to a file; with `sync` it is on disk when this returns. A short write is taken back."""
        try:
            self._at(path, lambda folder, name: append_at(path, folder, name, data, sync=sync), follow_last=False)
        except OSError as error:
            raise _write_failed(path, error) from None

    @contextlib.contextmanager
    def locked(self, path: str) -> Iterator[None]:
        """Hold an exclusive lock on a file. Raises Locked, naming the holder's pid, if someone has it."""
        try:
            descriptor = self._at(path, lambda folder, name: open_own(path, folder, name), follow_last=False)
        except OSError as error:
            raise _write_failed(path, error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Locked(f"{shown(path)}: another tuneagent (pid {holder}) is at work on this host") from None
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except OSError as error:
                raise _write_failed(path, error) from None
            yield
        finally:
            os.close(descriptor)

    def is_locked(self, path: str) -> bool:
        """True where some process holds the lock on that file."""
        try:
            descriptor = self._at(path, lambda folder, name: os.open(name, os.O_RDONLY | SAFE, dir_fd=folder))
        except (OSError, ReadFailed):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False
