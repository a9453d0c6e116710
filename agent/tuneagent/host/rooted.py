"""The way from a root to a name, one open folder after another: the only place where links are followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tuneagent.errors import ReadFailed
from tuneagent.host.descriptors import IS_LINK, close_all, link_target, opened_folder, shown

T = TypeVar("T")
LINK_LIMIT = 40
OPEN_LIMIT = 128


def steps(path: str) -> list[str]:
    """The names of a path."""
    return [part for part in path.split("/") if part not in ("", ".")]


class OpenFolders:
    """Folders that a pass has opened, by their names from the root, so that each is opened once. Closed when dropped.

    A name stands for the very folder: each step to it was opened without following a link.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def find(self, names: list[str]) -> int | None:
        """The folder of these names, if it is open."""
        return self._descriptors.get("/".join(names))

    def keep(self, names: list[str], opened: list[int]) -> None:
        """Keep the last of `opened`, while there is room: a host has many folders and a process few descriptors."""
        if len(self._descriptors) < OPEN_LIMIT:
            self._descriptors["/".join(names)] = opened.pop()

    def close(self) -> None:
        """Forget all: something was written."""
        opened, self._descriptors = list(self._descriptors.values()), {}
        close_all(opened)

    def __del__(self) -> None:
        self.close()


def reached(
    root: str,
    path: str,
    use: Callable[[int, str], T],
    *,
    follow_last: bool = True,
    known: OpenFolders | None = None,
) -> tuple[T, list[str]]:
    """What `use` returns for the folder that holds `path` and its last name, every link resolved inside the root.

    `use` never follows a link: it fails with ELOOP at one, which is then followed here. A path that is a folder by
    its form (the root, or one that ends in `..`) has the name `.`. Also returns the names from the root to it, without
    links. Raises OSError and ReadFailed.
    """
    names = steps(path)
    folder = known.find(names[:-1]) if known is not None and names and ".." not in names else None
    if folder is not None and "\0" not in path:
        # Most paths lie in a folder that is open already; a link is left to the walk from the root.
        try:
            return use(folder, names[-1]), names
        except OSError as error:
            if error.errno not in IS_LINK:
                raise
    opened: list[int] = []
    try:
        return _walk(root, path, use, opened, known, follow_last=follow_last)
    finally:
        close_all(opened)


def _walk(
    root: str,
    path: str,
    use: Callable[[int, str], T],
    opened: list[int],
    known: OpenFolders | None,
    *,
    follow_last: bool,
) -> tuple[T, list[str]]:
    if "\0" in path:
        raise ReadFailed(f"{path!r}: path holds a NUL")
    pending = steps(path)[::-1]
    if root != "/" and ".." in pending:
        raise ReadFailed(f"{path!r}: path leaves its root")
    names, links = list[str](), 0
    folders = [_opened(root, None, names, opened, known)]
    while pending:
        name = pending.pop()
        if name == "..":
            # At the root itself `..` stays there, as in a chroot.
            folders, names = (folders[:-1], names[:-1]) if names else (folders, names)
            continue
        try:
            if not pending:
                return use(folders[-1], name), [*names, name]
            folders.append(_opened(name, folders[-1], [*names, name], opened, known))
            names.append(name)
            continue
        except OSError as error:
            target = link_target(folders[-1], name) if follow_last or pending else None
            if target is None or error.errno not in IS_LINK:
                raise
        links += 1
        if links > LINK_LIMIT:
            raise ReadFailed(f"{shown(path)}: more than {LINK_LIMIT} symbolic links (a loop)")
        if target.startswith("/"):
            folders, names = folders[:1], []
        pending += steps(target)[::-1]
    return use(folders[-1], "."), names


def _opened(name: str, above: int | None, names: list[str], opened: list[int], known: OpenFolders | None) -> int:
    """A folder, opened unless it is open already. Raises OSError."""
    if known is None:
        return opened_folder(name, above, opened)
    descriptor = known.find(names)
    if descriptor is None:
        descriptor = opened_folder(name, above, opened)
        known.keep(names, opened)
    return descriptor
