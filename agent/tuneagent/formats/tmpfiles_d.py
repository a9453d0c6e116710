"""tmpfiles.d(5): the `w` lines."""

from __future__ import annotations

import msgspec


class Line(msgspec.Struct, frozen=True):
    """One `w` line: a path, which may be a glob, the text written there, and the file that says so."""

    path: str
    value: str
    file: str

    @property
    def is_glob(self) -> bool:
        """Whether the path stands for several."""
        return any(letter in self.path for letter in "*?[")


def parse(text: str, file: str = "") -> list[Line]:
    """The `w` lines of one file, in order."""
    found = []
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) == 7 and fields[0].rstrip("!-+=~^$") == "w":
            found.append(Line(fields[1].lstrip("/"), fields[6].strip(), file))
    return found
