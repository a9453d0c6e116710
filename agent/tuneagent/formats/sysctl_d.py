"""sysctl.d(5): lines, keys in either spelling, numbers as the kernel reads them, keys with wildcards."""

from __future__ import annotations

import re

from tuneagent.formats.lazy_regex import lazy_regex

_LINE = lazy_regex(r"-?\s*([^\s=]+)\s*=\s*(.*?)\s*\Z")
# `-net.core.rmem_max` alone: no glob sets this key.
_EXCLUSION = lazy_regex(r"-\s*([^\s=]+)\s*\Z")


def normal_key(key: str) -> str:
    """`net.core.rmem_max` for either spelling; the first separator decides, as in sysctl.d(5).

    Of separators in a row one counts, and none at either end, as in a path.
    """
    first_slash, first_dot = key.find("/"), key.find(".")
    if first_slash >= 0 and (first_dot < 0 or first_slash < first_dot):
        key = key.replace(".", "\0").replace("/", ".").replace("\0", "/")
    return ".".join(part for part in key.split(".") if part not in ("", "/"))


def parse(text: str) -> dict[str, str]:
    """Keys and values of one file. A later line wins."""
    return {key: value for key, value in dict(lines(text)).items() if value is not None}


def lines(text: str) -> list[tuple[str, str | None]]:
    """Keys and values in the order of their lines, with a key that a line excludes as None."""
    found: list[tuple[str, str | None]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        match = _LINE.match(stripped) or _EXCLUSION.match(stripped)
        if match:
            value = " ".join(match.group(2).split()) if match.lastindex == 2 else None
            found.append((normal_key(match.group(1)), value))
    return found


def number(text: str) -> int | None:
    """The number that the kernel reads: hexadecimal after 0x, octal after 0, no plus sign (kernel/sysctl.c)."""
    match = re.match(r"(-?)(?:0[xX]([0-9a-fA-F]{1,16})|0([0-7]{1,22})|([0-9]{1,20}))\Z", text)
    if match is None or (match.group(4) or "").startswith("0") != (match.group(4) == "0"):
        return None
    digits, base = next((found, base) for found, base in zip(match.group(2, 3, 4), (16, 8, 10), strict=True) if found)
    return int(match.group(1) + digits, base)


def taken(text: str, count: int) -> tuple[int, ...]:
    """What the kernel takes of a text for a key of `count` numbers: those up to the first word that is none.

    What is behind the last one is not looked at; of a text that begins otherwise it takes nothing (EINVAL;
    kernel/sysctl.c, do_proc_dointvec).
    """
    found: list[int] = []
    for word in re.split(r"[ \t\n]+", text.strip(" \t\n"))[:count]:
        one = number(word)
        if one is None:
            break
        found.append(one)
    return tuple(found)


def is_glob(key: str) -> bool:
    """Whether a key stands for several."""
    return any(mark in key for mark in "*?[")


def covers(glob: str, key: str) -> bool:
    """Whether a key with wildcards matches this one; no wildcard matches a dot, `{a,b}` matches either."""
    # Few files have a wildcard.
    from tuneagent.formats import globs

    return globs.covers(glob, key, ".")
