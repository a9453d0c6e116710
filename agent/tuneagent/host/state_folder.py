"""The state folder: journal, lock and notes of one host. It is root's, and its files are plain files of ours."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

import msgspec

from tuneagent.errors import PathMissing, ReadFailed, StateFolderUnsafe, WriteFailed
from tuneagent.host.descriptors import close_all, open_own, opened_folder, reason_of_os_error, shown
from tuneagent.host.files import Files

# Identity of a file's content: inode, length, time of the last change in ns.
Stamp = tuple[int, int, int]


class StateFolder(msgspec.Struct, frozen=True):
    """`folder` under `files`. Names are those of files in it.

    Whoever can write the folder can make root's undo write what they like. So it must belong to root, or to the user
    who runs this, and be writable by nobody else; each method raises StateFolderUnsafe where it is not.
    """

    files: Files
    folder: str

    def path(self, name: str) -> str:
        """A file's path as messages say it."""
        return shown(f"{self.folder}/{name}")

    @property
    def machine_path(self) -> str:
        """Where the folder lies on this machine."""
        return self.files.machine_path(self.folder)

    def make(self) -> None:
        """Make the folder where it is missing. Raises WriteFailed."""
        self.files.make_folder(self.folder, 0o700)
        self.check()

    def check(self) -> None:
        """Raise StateFolderUnsafe for a folder that someone else can write; one that is missing is fine."""
        try:
            found = self.files.status(self.folder)
        except PathMissing:
            return
        except ReadFailed as error:
            raise StateFolderUnsafe(f"{self.path('')}: {error}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise StateFolderUnsafe(f"{shown(self.folder)}: not a folder, so there is no journal to read or to write")
        if found.st_uid not in (0, os.geteuid()):
            owner = f"user {found.st_uid}"
            raise StateFolderUnsafe(
                f"{shown(self.folder)} belongs to {owner}, who could have written the journal; it must belong to root"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateFolderUnsafe(
                f"{shown(self.folder)} has mode {stat.S_IMODE(found.st_mode):04o}, so others could have written the "
                "journal; read it, then run `chmod 0700` on the folder"
            )

    def _plain(self, name: str) -> str:
        self.check()
        path = f"{self.folder}/{name}"
        if self.files.is_link(path):
            raise StateFolderUnsafe(f"{shown(path)}: a symbolic link, not a file of tuneagent")
        return path

    def read_bytes(self, name: str) -> bytes:
        """Content. Raises PathMissing, ReadFailed."""
        return self.files.read_bytes(self._plain(name))

    def read_or(self, name: str, default: str) -> str:
        """Text, or `default` for a file that is not there."""
        return self.files.read_or(self._plain(name), default)

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return self.files.exists(f"{self.folder}/{name}")

    def stamp(self, name: str) -> Stamp | None:
        """A value that changes when the content of a file does; None if there is no such file."""
        try:
            found = self.files.status(f"{self.folder}/{name}")
        except (PathMissing, ReadFailed):
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def replace(self, name: str, data: bytes) -> None:
        """Put a file in place, readable by its owner alone. Raises WriteFailed."""
        self.files.replace(self._plain(name), data, mode=0o600)

    def append(self, name: str, data: bytes, *, sync: bool) -> None:
        """Append, flushed to disk with `sync`. Raises WriteFailed."""
        self.files.append(self._plain(name), data, sync=sync)

    def remove(self, name: str) -> None:
        """Delete a file. Raises WriteFailed."""
        self.files.remove(f"{self.folder}/{name}")

    def sweep(self, name: str) -> None:
        """Remove what a crash during `replace` left."""
        self.files.sweep(f"{self.folder}/{name}")

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold an exclusive lock. Raises Locked."""
        return self.files.locked(self._plain(name))

    def is_locked(self, name: str) -> bool:
        """Whether some process holds that lock."""
        return self.files.is_locked(f"{self.folder}/{name}")

    def reserve(self, name: str, size: int) -> None:
        """Reserve `size` bytes on disk in a file without content; 0 removes it. Raises WriteFailed."""
        if size <= 0:
            self.remove(name)
            return
        path = self._plain(name)
        try:
            with self._opened(name) as descriptor:
                if os.fstat(descriptor).st_size > size:
                    os.ftruncate(descriptor, size)
                else:
                    os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise WriteFailed(f"{shown(path)}: {reason_of_os_error(error)}", is_full=is_full) from None

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        opened: list[int] = []
        try:
            folder = opened_folder(self.files.machine_path(self.files.resolved(self.folder)), None, opened)
            opened.append(descriptor := open_own(f"{self.folder}/{name}", folder, name))
            yield descriptor
        finally:
            close_all(opened)
