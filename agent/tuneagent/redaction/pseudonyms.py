"""Identifiers and values: pseudonyms that stay the same within one capture, and what stands for a value taken out."""

from __future__ import annotations

import ipaddress
import re
import secrets
from hashlib import sha256

from tuneagent.errors import TuneError
from tuneagent.host import Host
from tuneagent.pattern import pattern

_UUID = pattern(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_MACHINE_ID = pattern(r"(?<![0-9a-fA-F])[0-9a-f]{32}(?![0-9a-fA-F])")
_MAC = pattern(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
_IPV4 = pattern(r"(?<![\d.])(?!(?:0|127)\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = pattern(r"(?<![\w:.])[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*(?![\w:])")
# Numbers with a unit, lists of CPUs and ranges, switches, and the words in which the kernel speaks of them.
_PLAIN = pattern(
    r"[\[(<]?-?(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,20}(?:[-,:./][0-9]{1,20})*)(?:[KMGTPkmgtp]?i?[Bb]?|us|ms|s|%)[\])>]?\Z"
)
_SWITCHES = frozenset(
    [
        "Y",
        "N",
        "y",
        "n",
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "True",
        "False",
        "none",
        "None",
        "auto",
        "default",
        "always",
        "never",
        "madvise",
        "defer",
        "defer+madvise",
        "advise",
        "force",
        "deny",
        "infinity",
        "unlimited",
        "max",
    ]
)
_KINDS = (
    ("url", pattern(r"[A-Za-z][A-Za-z0-9+.-]*://")),
    ("hex", pattern(r"(0x)?[0-9a-fA-F-]{8,}\Z")),
    ("number", pattern(r"[-+0-9.,:]+\Z")),
    ("path", pattern(r"/[^\s]*\Z")),
)


def is_plain(word: str) -> bool:
    """Whether a word is a number, a list of numbers or a switch: a setting, and no secret."""
    return word in _SWITCHES or bool(_PLAIN.match(word))


def blank(text: str) -> str:
    """What stands for a value taken out: its kind and its length."""
    kind = next((name for name, form in _KINDS if form.match(text)), "text")
    return f"redacted-{kind}-{len(text)}"


class Pseudonyms:
    """Same identifier, same pseudonym, within one capture; a salt that is thrown away keeps it from being found."""

    def __init__(self, host: Host, *, enabled: bool) -> None:
        self._enabled = enabled
        self._salt = secrets.token_hex(16)
        self._name: re.Pattern[str] | None = None
        try:
            name = host.files.read_or("proc/sys/kernel/hostname", "")
        except TuneError:
            name = ""
        if enabled and name and name != "localhost":
            self._name = re.compile(rf"(?<![\w-]){re.escape(name)}(?:\.[A-Za-z0-9.-]+)?(?![\w-])")

    def _digits(self, text: str, count: int) -> str:
        return sha256((self._salt + text.lower()).encode()).hexdigest()[:count]

    def _uuid(self, match: re.Match[str]) -> str:
        if set(match.group(0)) <= {"0", "-"}:
            return match.group(0)
        d = self._digits(match.group(0), 32)
        return f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:32]}"

    def _mac(self, match: re.Match[str]) -> str:
        d = self._digits(match.group(0), 10)
        return "02:" + ":".join(d[i : i + 2] for i in range(0, 10, 2))

    def _address(self, match: re.Match[str]) -> str:
        d = self._digits(match.group(0), 4)
        return f"198.18.{int(d[:2], 16)}.{int(d[2:], 16)}"

    def _address6(self, match: re.Match[str]) -> str:
        try:
            found = ipaddress.IPv6Address(match.group(0))
        except ValueError:
            return match.group(0)
        if found.is_loopback or found.is_unspecified:
            return match.group(0)
        return f"2001:db8::{self._digits(match.group(0), 4)}"

    def host_name(self, text: str) -> str:
        """Text with this host's own name, and the domain behind it, replaced."""
        if self._name is None:
            return text
        return self._name.sub(lambda match: "host-" + self._digits(match.group(0).partition(".")[0], 8), text)

    def text(self, text: str) -> str:
        """Text with every address and identifier replaced."""
        if not self._enabled:
            return text
        text = _MACHINE_ID.sub(lambda match: self._digits(match.group(0), 32), _UUID.sub(self._uuid, text))
        text = _MAC.sub(self._mac, text)
        return _IPV6.sub(self._address6, _IPV4.sub(self._address, text))
