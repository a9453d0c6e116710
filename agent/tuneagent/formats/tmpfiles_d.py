"""tmpfiles.d(5): the lines that write to files which exist, `w` and `w+`."""

from __future__ import annotations

import re

import msgspec

from tuneagent.formats.lazy_regex import lazy_regex

_GLOB = "*?[{"
# How a line that counts may start: its type, or a type in quotes.
_STARTS = frozenset("wexXrR\"'\\")
# What may stand behind the letter of a type, in any order.
_TYPE = lazy_regex(r"w[!+=^$-]*\Z")
_BLOCKER = lazy_regex(r"[exXrR][!+=^$-]*\Z")
_MODE = lazy_regex(r"(-|[~:]{0,2}[0-7]{1,4})\Z")
# Names of other users are looked up on the host; no line that writes needs one.
_OWNER = lazy_regex(r"(-|:?(\d+|root))\Z")
_AGE = lazy_regex(r"(-|([abcmABCM]+:)?~?(\d+(us|ms|s|sec|m|min|h|hr|d|w)?)+)\Z")
_ESCAPE = lazy_regex(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|[abfnrtvs\"'\\])")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


class Line(msgspec.Struct, frozen=True):
    """One `w` line: a path, which may be a glob, the text written there, and the file that says so.

    A line for a path that an earlier line has is a duplicate and does nothing, unless it says the same or both of them
    `appends`. A text with a specifier (`%H`) depends on the host: `value` is None.
    """

    path: str
    value: str | None
    file: str
    appends: bool = False
    # Another type of line that owns the path too: a later `w` line for it is refused.
    blocks: bool = False
    # Mode, user, group and age: lines that differ in them do not say the same.
    owned: tuple[str, ...] = ()

    @property
    def is_glob(self) -> bool:
        """Whether the path stands for several."""
        return any(letter in self.path for letter in _GLOB)

    def covers(self, path: str) -> bool:
        """Whether the line writes to this file; no wildcard matches a slash."""
        if self.blocks:
            return False
        if not self.is_glob:
            return self.path == path
        # Few lines have a wildcard.
        from tuneagent.formats import globs

        return globs.covers(self.path, path, "/")


def parse(text: str, file: str = "") -> list[Line]:
    """The `w` lines of one file, in order, and those in their way; what systemd-tmpfiles refuses is left out."""
    found = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped[:1] in _STARTS:
            found += _line(stripped, file)
    return found


def _line(text: str, file: str) -> list[Line]:
    words, rest = _words(text, 6)
    if words is None or len(words) < 2 or not words[1].startswith("/") or "%" in words[1].replace("%%", ""):
        return []
    path = re.sub(r"/+", "/", words[1]).strip("/").replace("%%", "%")
    words += ["-"] * (6 - len(words))
    if not _is_sound(words):
        return []
    if _BLOCKER.match(words[0]):
        return [Line(path, None if rest in ("", "-") else rest, file, blocks=True, owned=tuple(words[2:]))]
    # A dash stands for no text.
    if not _TYPE.match(words[0]) or rest in ("", "-") or "\\" in _ESCAPE.sub("", rest):
        return []
    value = _unescaped(rest)
    known = value.replace("%%", "%") if "%" not in value.replace("%%", "") else None
    return [Line(path, known, file, "+" in words[0], owned=tuple(words[2:]))]


def _is_sound(words: list[str]) -> bool:
    """Whether mode, user, group and age are such as systemd-tmpfiles takes."""
    _, _, mode, user, group, age = words
    return bool(_MODE.match(mode) and _OWNER.match(user) and _OWNER.match(group) and _AGE.match(age))


def _words(text: str, count: int) -> tuple[list[str] | None, str]:
    """The first words and what follows them; None where a quote does not end.

    Quotes are taken away, and a backslash before any letter: here it stands for that letter alone.
    """
    words: list[str] = []
    at = 0
    while len(words) < count and at < len(text):
        word, quote = "", ""
        while at < len(text) and (quote or not text[at].isspace()):
            letter = text[at]
            if letter == "\\":
                if at + 1 == len(text):
                    return None, ""
                word += text[at + 1]
                at += 1
            elif letter == quote:
                quote = ""
            elif not quote and letter in "\"'":
                quote = letter
            else:
                word += letter
            at += 1
        if quote:
            return None, ""
        words.append(word)
        while at < len(text) and text[at].isspace():
            at += 1
    return words, text[at:]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_letter, text)


def _letter(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "xuU":
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if len(code) == 3 else _LETTERS.get(code, code)
