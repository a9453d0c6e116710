"""A host that records what was read and run: what a capture must hold so that its audit equals the machine's."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence

from tuneagent.errors import CommandFailed, NoSystemd, PathMissing, ReadFailed
from tuneagent.host.commands import NO_SYSTEMD, Completed, Exec
from tuneagent.host.files import ELF, Files, FileStatus


class RecordingFiles(Files):
    """Files that keep the content of everything read, and the reason for everything that could not be."""

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self.content: dict[str, bytes] = {}
        self.failed: dict[str, str] = {}
        self.absent: set[str] = set()
        self.folders: set[str] = set()
        # Files that may be run: a script that may not is no part of a boot.
        self.programs: set[str] = set()

    def leave_out(self, places: Iterable[str]) -> None:
        """Forget these files and folders, and what is in them."""
        for place in places:

            def stays(path: str, place: str = place) -> bool:
                return path != place and not path.startswith(f"{place}/") and not place.startswith(f"{path}/")

            self.content = {path: data for path, data in self.content.items() if stays(path)}
            self.failed = {path: error for path, error in self.failed.items() if stays(path)}
            self.absent, self.folders = set(filter(stays, self.absent)), set(filter(stays, self.folders))

    def _name(self, path: str) -> str:
        """The path as a member of an archive, which never goes up."""
        name = path.strip("/")
        if ".." not in name.split("/"):
            return name
        try:
            return self.resolved(path).strip("/")
        except (PathMissing, ReadFailed):
            return "/".join(part for part in name.split("/") if part != "..")

    def status(self, path: str) -> FileStatus:
        """Ask, and keep whether it may be run."""
        found = super().status(path)
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o111:
            self.programs.add(self._name(path))
        return found

    def read_bytes(self, path: str) -> bytes:
        """Read and keep."""
        name = self._name(path)
        try:
            data = super().read_bytes(path)
        except PathMissing:
            # In a tree without the folder nothing is known of the file.
            if self.root == "/" or super().is_dir(name.rpartition("/")[0]):
                self.absent.add(name)
            raise
        except ReadFailed as error:
            # Told in words alone: this is the path by which it is asked for.
            self.failed[path.lstrip("/")] = str(error)
            raise
        self.content[name] = data
        return data

    def read_part(self, path: str, start: int, size: int) -> bytes:
        """Read, and keep that it is there, and a program's first bytes: files of this size are unknown in a capture."""
        found = super().read_part(path, start, size)
        self.content.setdefault(self._name(path), found if found == ELF else b"")
        return found

    def names(self, path: str) -> list[str]:
        """List and keep: each entry becomes a file or folder of the capture."""
        found = super().names(path)
        if super().is_dir(path):
            self.folders.add(path.strip("/"))
            self.folders.update(
                f"{path.strip('/')}/{name}" for name in found if super(RecordingFiles, self).is_dir(f"{path}/{name}")
            )
            for name in found:
                full = f"{path.strip('/')}/{name}"
                if full not in self.folders:
                    self.content.setdefault(full, b"")
        return found

    def exists(self, path: str) -> bool:
        """Ask and keep."""
        found, name = super().exists(path), self._name(path)
        if found and super().is_dir(path):
            self.folders.add(name)
        elif found:
            self.content.setdefault(name, b"")
        elif self.root == "/" or super().is_dir(name.rpartition("/")[0]):
            self.absent.add(name)
        return found

    def is_dir(self, path: str) -> bool:
        """Ask and keep."""
        found = super().is_dir(path)
        if found:
            self.folders.add(path.strip("/"))
        return found


class CaptureFiles(Files):
    """The tree of a capture: what could not be read on its machine cannot be read here either."""

    def __init__(self, root: str, unreadable: dict[str, str]) -> None:
        super().__init__(root)
        self._unreadable = unreadable

    def read_bytes(self, path: str) -> bytes:
        """Read, or fail as the machine did."""
        error = self._unreadable.get(path.lstrip("/"))
        if error is not None:
            raise ReadFailed(error)
        return super().read_bytes(path)

    def status(self, path: str) -> FileStatus:
        """Ask; what could not even be looked at on the machine is not missing here."""
        try:
            return super().status(path)
        except PathMissing:
            error = self._unreadable.get(path.lstrip("/"))
            if error is None:
                raise
            raise ReadFailed(error) from None


class RecordingExec:
    """Programs whose answers are kept."""

    def __init__(self, inner: Exec) -> None:
        self._inner = inner
        self.available = inner.available
        self.label = inner.label
        self.answers: dict[str, Completed] = {}

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """Run and keep. A program that could not be run is kept as such."""
        key = _key(argv)
        try:
            done = self._inner.run(argv, timeout_s)
        except CommandFailed as error:
            self.answers[key] = Completed(-1, "", str(error))
            raise
        self.answers[key] = done
        return done


def _key(argv: Sequence[str]) -> str:
    # Only a capture needs it. Its keys are spelt as Python's json spells them.
    import json

    return json.dumps(list(argv))


class RecordedExec:
    """Programs of a capture: the answers that were kept, and no other."""

    available = False
    label = "recorded"

    def __init__(self, answers: dict[str, Completed]) -> None:
        self._answers = answers
        self.lacks_systemd = any(NO_SYSTEMD in done.stderr for done in answers.values())

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        """The answer that was kept."""
        del timeout_s
        done = self._answers.get(_key(argv))
        if done is None:
            raise CommandFailed(f"{argv[0]}: its output is not in this capture")
        if done.code < 0:
            raise NoSystemd(done.stderr) if NO_SYSTEMD in done.stderr else CommandFailed(done.stderr)
        return done
