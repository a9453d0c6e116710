"""Limits at the next boot and the next login: ours in two drop-ins, and what files of others give a login."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tuneagent.facts.one_pass import Facts
from tuneagent.facts.precedence import by_precedence
from tuneagent.formats.limits_conf import IN_BYTES, INFINITY, Line, domains, limit_of, parse
from tuneagent.persist.own_files import OwnFiles
from tuneagent.persist.systemd_d import OWN_NAME

FOLDER = "etc/security/limits.d"
LOGIN = "login:"


class LimitFiles(OwnFiles):
    """Limits for services and for logins; an entry is the limit's name, for logins behind `login:`."""

    path = f"etc/systemd/system.conf.d/{OWN_NAME}"
    logins = f"{FOLDER}/{OWN_NAME}"
    files = (path, logins)

    def bodies(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        """`DefaultLimit...=` for systemd, soft and hard lines for pam_limits."""
        services = [
            f"DefaultLimit{name.upper()}={value}\n" for name, value in sorted(entries.items()) if LOGIN not in name
        ]
        logins = [
            f"{who} - {name} {_for_logins(name, value)}\n"
            for name, value in sorted((key.removeprefix(LOGIN), text) for key, text in entries.items() if LOGIN in key)
            for who in ("*", "root")
        ]
        bodies = {self.path: "[Manager]\n" + "".join(services)} if services else {}
        return {**bodies, **({self.logins: "".join(logins)} if logins else {})}

    def belongs(self, path: str, key: str) -> bool:
        """Each of the two files has its own entries."""
        return (path == self.logins) == (LOGIN in key)


def _for_logins(name: str, value: str) -> str:
    """As limits.conf(5) wants it: memory and stack in KiB, where systemd takes bytes."""
    if value == INFINITY:
        return "unlimited"
    return str(-(-int(value) // 1024)) if name in IN_BYTES else value


class Login(NamedTuple):
    """The least that a login gets: whose, how much (None where no line says), and the file of the last such line."""

    domain: str
    value: str | None
    file: str


def logins(facts: Facts, item: str, *, with_ours: bool) -> list[Login]:
    """What each kind of login gets by the lines of all files in their order. Raises ReadFailed."""
    known = [
        (line, path) for line, path in facts.once("limits.conf", lambda: _lines(facts))
        if with_ours or path != f"/{LimitFiles.logins}"
    ]  # fmt: skip
    found = []
    for domain in domains(line for line, _ in known if line.item == item):
        given = limit_of((line for line, _ in known), item, domain)
        both = [value for value in given if value is not None]
        file = next((path for line, path in reversed(known) if (line.item, line.domain) == (item, domain)), "")
        found.append(Login(domain, min(both, key=rank, default=None), file))
    return found


def rank(value: str) -> float:
    """The order of limits."""
    return float("inf") if value == INFINITY else float(value)


def _lines(facts: Facts) -> list[tuple[Line, str]]:
    files = facts.host.files
    paths = [path for path in by_precedence(facts.host, [FOLDER]) if not files.is_mask(path)]
    return [
        (line, f"/{path}")
        for path in ("etc/security/limits.conf", *paths)
        for line in parse(files.read_or(path, ""))
    ]  # fmt: skip
