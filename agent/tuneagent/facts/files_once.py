"""Files of one pass: each is read once, however many subjects need it, until something is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host.files import Files, FileStatus

T = TypeVar("T")
# Folders where writing one file can change the content of another.
_KERNEL = ("proc/", "sys/")


class FilesOnce(Files):
    """The files of `inner`, with what was read kept. A failure is kept like an answer."""

    def __init__(self, inner: Files) -> None:
        self._inner = inner
        self._reader = inner.for_a_pass()
        self.root = inner.root
        self._answers: dict[tuple[str, str], object] = {}

    def _once(self, kind: str, path: str, ask: Callable[[str], T]) -> T:
        key = (kind, path.strip("/"))
        if key not in self._answers:
            try:
                self._answers[key] = ask(path)
            except (PathMissing, ReadFailed) as error:
                # A new exception: the raised one keeps its stack frames alive, and these hold the open folders.
                self._answers[key] = type(error)(*error.args)
        found = self._answers[key]
        if isinstance(found, Exception):
            raise type(found)(*found.args)
        return cast("T", found)

    def forget(self, path: str | None = None) -> None:
        """Forget what may have changed, to read it again: everything, or what a write of `path` can change."""
        self._reader.forget_folders()
        name = (path or "").strip("/")
        is_kernel = name.startswith(_KERNEL)
        for key in list(self._answers):
            other = key[1]
            near = name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/")
            if path is None or near or (is_kernel and other.startswith(_KERNEL)):
                del self._answers[key]

    def read_bytes(self, path: str) -> bytes:
        """As Files."""
        return self._once("content", path, self._reader.read_bytes)

    def read_part(self, path: str, start: int, size: int) -> bytes:
        """As Files."""
        return self._once(f"{size} bytes from {start}", path, lambda name: self._reader.read_part(name, start, size))

    def names(self, path: str) -> list[str]:
        """As Files."""
        return list(self._once("names", path, self._reader.names))

    def status(self, path: str) -> FileStatus:
        """As Files."""
        return self._once("status", path, self._reader.status)

    def exists(self, path: str) -> bool:
        """As Files."""
        return self._once("exists", path, self._reader.exists)

    def is_dir(self, path: str) -> bool:
        """As Files."""
        return self._once("is folder", path, self._reader.is_dir)

    def is_mask(self, path: str) -> bool:
        """As Files."""
        return self._once("is mask", path, self._reader.is_mask)

    def resolved(self, path: str) -> str:
        """As Files."""
        return self._once("resolved", path, self._reader.resolved)

    def is_link(self, path: str) -> bool:
        """As Files."""
        return self._once("is link", path, self._reader.is_link)

    def close(self) -> None:
        """Close the folders that are open. Later reads open them again."""
        self._reader.forget_folders()

    def write(self, path: str, text: str) -> None:
        """As Files."""
        self.forget(path)
        self._inner.write(path, text)

    def replace(self, path: str, data: bytes, mode: int | None = None) -> None:
        """As Files."""
        self.forget(path)
        self._inner.replace(path, data, mode)

    def remove(self, path: str) -> None:
        """As Files."""
        self.forget(path)
        self._inner.remove(path)

    def remove_with_folder(self, path: str, top: str) -> None:
        """As Files."""
        self.forget(top)
        self._inner.remove_with_folder(path, top)

    def create(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """As Files."""
        self.forget(path)
        self._inner.create(path, data, mode)

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        """As Files."""
        self.forget(path)
        self._inner.append(path, data, sync=sync)

    def make_folder(self, path: str, mode: int = 0o700) -> None:
        """As Files."""
        self.forget(path)
        self._inner.make_folder(path, mode)
