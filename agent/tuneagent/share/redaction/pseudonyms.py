"""Identifiers and values: pseudonyms that stay the same within one capture, and what stands for a value taken out."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256

from tuneagent.errors import TuneError
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host.machine import Host
from tuneagent.share.redaction.vocabulary import is_file_name

_UUID = lazy_regex(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_MACHINE_ID = lazy_regex(r"(?<![0-9a-fA-F])[0-9a-f]{32}(?![0-9a-fA-F])")
_MAC = lazy_regex(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
_IPV4 = lazy_regex(r"(?<![\d.])(?!(?:0|127)\.)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = lazy_regex(r"(?<![\w:.])[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*(?![\w:])")
_KINDS = (
    ("url", lazy_regex(r"[A-Za-z][A-Za-z0-9+.-]*://")),
    ("hex", lazy_regex(r"(0x)?[0-9a-fA-F-]{8,}\Z")),
    ("number", lazy_regex(r"[-+0-9.,:]+\Z")),
    ("path", lazy_regex(r"/[^\s]*\Z")),
)


def blank(text: str) -> str:
    """What stands for a value taken out: its kind and its length."""
    kind = next((name for name, form in _KINDS if form.match(text)), "text")
    return f"redacted-{kind}-{len(text)}"


class Pseudonyms:
    """Same identifier, same pseudonym, within one capture; a salt that is thrown away makes it irreversible."""

    def __init__(self, host: Host, *, enabled: bool) -> None:
        self.enabled = enabled
        self._salt = secrets.token_hex(16)
        self._name: re.Pattern[str] | None = None
        try:
            name = host.files.read_or("proc/sys/kernel/hostname", "")
        except TuneError:
            name = ""
        short = name.partition(".")[0]
        if enabled and short and short != "localhost":
            # A name stands in others too, as of a volume group: only letters and digits beside it make it another.
            self._name = re.compile(
                rf"(?<![A-Za-z0-9]){re.escape(short)}(?![A-Za-z0-9])(?:\.[A-Za-z0-9.-]+)?", re.IGNORECASE
            )

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

    def named(self, kind: str, name: str) -> str:
        """A name that someone has chosen, as its kind and a number."""
        return f"{kind}-{self._digits(name, 8)}" if self.enabled else name

    def file_names(self, names: Iterable[str]) -> dict[str, str]:
        """Names of configuration files that are somebody's own, with what stands for each; their order is the same.

        The order decides which file wins, so a name follows the known one before it: `10-network.conf+00001.conf`.
        """
        found: dict[str, str] = {}
        last, count = "", 0
        for name in sorted(set(names)) if self.enabled else ():
            if is_file_name(name) and self.host_name(self.text(name)) == name and name > f"{last}+99999":
                last, count = name, 0
                continue
            count += 1
            kind = re.search(r"\.(conf|rules|cfg|toml|ya?ml|service)\Z", name)
            found[name] = f"{last}+{count:05d}{kind.group(0) if kind else ''}"
        return found

    def text(self, text: str) -> str:
        """Text with every address and identifier replaced."""
        if not self.enabled:
            return text
        text = _MACHINE_ID.sub(lambda match: self._digits(match.group(0), 32), _UUID.sub(self._uuid, text))
        text = _MAC.sub(self._mac, text)
        return _IPV6.sub(self._address6, _IPV4.sub(self._address, text))
