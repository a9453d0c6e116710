"""Rows that are reported and never written: how each is read, when it is right, why it matters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tuneagent.contracts.report import Comparison
from tuneagent.contracts.values import About, Absent, Dispute, Observation, Setting, Severity, Unreadable, Value
from tuneagent.errors import CommandFailed, NoSystemd, ReadFailed
from tuneagent.facts.conditions import nothing_known
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex

Read = Callable[[Facts], Observation]
# What was found against what is wanted. A row's own comparison knows the types that its `read` and its `kind` give.
Compare = Callable[[Any, Any], bool]
# Why a row says nothing about this host; None where it applies.
Condition = Callable[[Facts], "str | None"]


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One check. `kind` is its type in a profile: with bool, true asks for `expect`; else the profile gives it."""

    group: str
    read: Read
    right: Compare
    about: About
    evidence: str
    kind: object = bool
    expect: Setting = True
    applies: tuple[Condition, ...] = ()

    def observe(self, facts: Facts) -> Observation:
        """What is there, or why this host has no such thing."""
        for condition in self.applies:
            reason = condition(facts)
            if reason is not None:
                return Absent(reason)
        return self.read(facts)

    def wanted(self, given: object) -> Setting:
        """What the profile asks for; None where it does not."""
        if self.kind is bool:
            return self.expect if given else None
        return list(given) if isinstance(given, tuple) else given


def about(severity: Severity, why: str, source: str, advice: str = "", dispute: Dispute | None = None) -> About:
    """The explaining part of a row."""
    return About(severity, why, (source,), advice, dispute)


def equal(seen: Setting, wanted: Setting) -> bool:
    """Exactly the wanted value."""
    return bool(seen == wanted)


def among(seen: Setting, wanted: Sequence[Setting]) -> bool:
    """One of the values."""
    return seen in wanted


def at_least(seen: float | Mapping[str, float], wanted: float) -> bool:
    """A number, or each number of a mapping, not below the limit."""
    numbers = seen.values() if isinstance(seen, Mapping) else [seen]
    return all(number >= wanted for number in numbers)


def at_most(seen: float | Mapping[str, float], wanted: float) -> bool:
    """A number, or each number of a mapping, not above the limit."""
    numbers = seen.values() if isinstance(seen, Mapping) else [seen]
    return all(number <= wanted for number in numbers)


def each(seen: Mapping[str, Setting], wanted: Setting) -> bool:
    """Every value of a mapping is the one wanted."""
    return all(value == wanted for value in seen.values())


def comparison_of(right: Compare) -> Comparison:
    """The word for a comparison; `rule` for a row's own comparison."""
    words: dict[Compare, Comparison] = {
        equal: "equal",
        among: "oneOf",
        at_least: "atLeast",
        at_most: "atMost",
    }
    return words.get(right, "rule")


def text(path: str) -> Read:
    """The content of a file."""
    return lambda facts: facts.host.observe(path)


def number(path: str) -> Read:
    """The content of a file that must be a whole number."""

    def read(facts: Facts) -> Observation:
        return as_number(facts.host.observe(path), path)

    return read


def as_number(seen: Observation, path: str) -> Observation:
    """A text as a whole number; anything else is unreadable."""
    if not isinstance(seen, Value):
        return seen
    if not re.match(r"-?\d{1,20}\Z", str(seen.value)):
        return Unreadable(f"/{path}: {str(seen.value)[:40]!r} is not a number")
    return Value(int(str(seen.value)))


def field(path: str, pattern: str, convert: Callable[[str], Setting] = str, missing: str | None = None) -> Read:
    """The first group of a pattern in a file. Where it does not match: Absent with `missing`, else unreadable."""
    compiled = lazy_regex(pattern, re.MULTILINE)

    def read(facts: Facts) -> Observation:
        seen = facts.host.observe(path)
        if not isinstance(seen, Value):
            return seen
        match = compiled.search(str(seen.value))
        if match is None:
            return Absent(missing) if missing else Unreadable(f"/{path}: no line of the form {pattern}")
        return Value(convert(match.group(1)))

    return read


def gathered(
    names: Callable[[Facts], Mapping[str, str] | None], convert: Callable[[str], Setting], none: str, folder: str = ""
) -> Read:
    """Several like files as one mapping: `names` gives label to path. One that cannot be read is unreadable.

    `none` is the reason to give where there are none; None from `names` means that this is not known, and so does a
    tree that lacks all above `folder`, where they would be.
    """

    def read(facts: Facts) -> Observation:
        try:
            paths = names(facts)
        except ReadFailed as error:
            return Unreadable(str(error))
        if paths is None:
            return Unreadable("the devices of this host are not known")
        found: dict[str, Setting] = {}
        for label, path in paths.items():
            seen = facts.host.observe(path)
            if isinstance(seen, Absent):
                continue
            if not isinstance(seen, Value):
                return seen
            try:
                found[label] = convert(str(seen.value))
            except (ValueError, IndexError):
                return Unreadable(f"/{path}: {str(seen.value)[:40]!r} is not understood")
        if found:
            return Value(found)
        return (nothing_known(facts, folder) if folder else None) or Absent(none)

    return read


def exists(path: str, folder: str) -> Read:
    """Whether something is there. Unreadable where not even its folder is known."""

    def read(facts: Facts) -> Observation:
        if facts.host.files.exists(path):
            return Value(True)
        if facts.host.source == "tree" and facts.host.files.is_dir(folder):
            return Value(False)
        missing = facts.host.missing(path)
        return Value(False) if isinstance(missing, Absent) else missing

    return read


def command(argv: Sequence[str], convert: Callable[[str], Observation]) -> Read:
    """What a program of the host prints."""

    def read(facts: Facts) -> Observation:
        try:
            done = facts.host.exec.run(list(argv))
        except NoSystemd as error:
            return Absent(str(error))
        except CommandFailed as error:
            return Unreadable(str(error))
        if done.code != 0:
            return Unreadable(f"{argv[0]}: exit {done.code}: {done.stderr.strip()[:200]}")
        return convert(done.stdout)

    return read


def kernel_log(convert: Callable[[str], Observation]) -> Read:
    """The kernel's messages of level warning and worse. Several rows use them: they are read once per pass."""

    def read(facts: Facts) -> Observation:
        try:
            return convert(facts.once("kernel log", facts.host.kernel_warnings))
        except CommandFailed as error:
            return Unreadable(str(error))

    return read
