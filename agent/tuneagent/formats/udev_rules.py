"""udev rules: what they make of the attributes of one device when it is added at boot (udev(7)).

A match that depends on what is not known here (the environment, programs, files) may hold or not; such a rule may set
its attribute or not. The host tier compares with `udevadm test`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tuneagent.contracts.values import Absent, Observation, Unreadable, Value
from tuneagent.formats.globs import matches
from tuneagent.formats.lazy_regex import lazy_regex

_PAIR = lazy_regex(r"\s*([A-Za-z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*\"((?:[^\"\\]|\\.)*)\"\s*,?\s*")
# Keys by the operators that they take; a line with another key or operator is ignored whole.
_OWN = ("KERNEL", "SUBSYSTEM", "DRIVER")
_PARENTS = ("KERNELS", "SUBSYSTEMS", "DRIVERS", "ATTRS", "TAGS")
_MATCH_ONLY = ("ACTION", "DEVPATH", "TEST", "PROGRAM", "RESULT", "CONST", *_OWN, *_PARENTS)
_EITHER = ("NAME", "SYMLINK", "ATTR", "SYSCTL", "ENV", "TAG", "IMPORT")
_ASSIGN_ONLY = ("OWNER", "GROUP", "MODE", "SECLABEL", "RUN", "LABEL", "GOTO", "OPTIONS")
_WITH_ATTRIBUTE = ("ATTR", "ATTRS", "SYSCTL", "ENV", "CONST", "SECLABEL", "IMPORT")
_ORDER = (
    "ACTION", "DEVPATH", "KERNEL", "SYMLINK", "NAME", "ENV", "CONST", "TAG", "SUBSYSTEM", "DRIVER", "ATTR", "SYSCTL",
    "KERNELS", "SUBSYSTEMS", "DRIVERS", "ATTRS", "TAGS",
)  # fmt: skip
_OF_SUBSYSTEM = {"NAME": "net", "SYMLINK": "block", "OWNER": "block", "GROUP": "block", "MODE": "block"}
_OPTIONS = ("dump", "string_escape=", "db_persist", "watch", "nowatch", "link_priority=", "log_level=")
# Only lines with one of these write an attribute, read one, run a program or skip other lines.
_COUNTS = ("ATTR", "RUN", "LABEL", "GOTO")
_ALTERNATIVES_LIMIT = 64
# Programs that set an attribute without naming it, and where scripts of the machine's owner lie.
_PROGRAMS = {"read_ahead_kb": ("blockdev", "hdparm")}
_LOCAL = lazy_regex(r"(^|\s|')/(usr/local|opt|root|home|srv|etc)/")


class Pair(NamedTuple):
    """One `KEY{attribute}OPERATOR"value"`."""

    key: str
    attribute: str
    operator: str
    value: str

    @property
    def is_match(self) -> bool:
        """A condition, not an assignment."""
        return self.operator in ("==", "!=")


class Rule(NamedTuple):
    """One line, with where it stands."""

    place: str
    pairs: tuple[Pair, ...]


class Named(NamedTuple):
    """A device or one of its parents: names, None where not known, and how to ask for an attribute."""

    kernel: str | None
    subsystem: str | None
    driver: str | None
    attribute: Callable[[str], Observation]
    # Where its name is not known: names that it does not have.
    others: frozenset[str] = frozenset()


class Device(NamedTuple):
    """A device, its parents from the nearest, and what is known of its environment."""

    chain: Sequence[Named]
    environment: Mapping[str, str]


class Written(NamedTuple):
    """What rules make of an attribute: the text if one surely sets it last, and the place of one that may set it after.

    `place` is the rule that sets the text; `doubt` says which later rule may change it, empty if none.
    """

    text: str | None
    place: str
    doubt: str


def parse(text: str, path: str) -> list[Rule]:
    """Rules of one file in its order; lines that udev would ignore are left out."""
    found = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        body = line.strip()
        if body.startswith("#") or (not body and not pending):
            continue
        start = start or number
        if body.endswith("\\"):
            pending += body[:-1]
            continue
        whole = pending + body
        # Most rules name devices and give rights: what they do is not asked for.
        rule = _rule(whole, f"{path}:{start}") if any(word in whole for word in _COUNTS) else None
        found += [rule] if rule is not None else []
        pending, start = "", 0
    return found


def _rule(line: str, place: str) -> Rule | None:
    pairs = []
    position = 0
    while position < len(line):
        match = _PAIR.match(line, position)
        if match is None:
            return None
        pair = Pair(match.group(1), match.group(2) or "", match.group(3), match.group(4).replace('\\"', '"'))
        if not _is_valid(pair):
            return None
        pairs.append(pair)
        position = match.end()
    # A line that only asks has no effect; conditions are looked at in the order of their kinds.
    acts = any(pair.key == "LABEL" or _acts(pair) for pair in pairs)
    return Rule(place, tuple(sorted(pairs, key=_place_of))) if acts else None


def _acts(pair: Pair) -> bool:
    """Whether it changes something on some device; an option that udev does not know changes nothing."""
    if pair.key == "OPTIONS":
        return pair.value.startswith(_OPTIONS)
    return pair.key == "IMPORT" or not (pair.is_match or pair.key in ("LABEL", "PROGRAM"))


def _counts(pair: Pair, device: Device, rules: Sequence[Rule], number: int) -> bool:
    """Whether it changes something here: names of interfaces, files of devices, and jumps to a place that is there."""
    if pair.key == "GOTO":
        return _has_label(rules[number + 1 :], pair.value)
    if pair.key in _OF_SUBSYSTEM and not pair.is_match:
        return device.chain[0].subsystem == _OF_SUBSYSTEM[pair.key]
    return _acts(pair)


def _place_of(pair: Pair) -> int:
    return _ORDER.index(pair.key) if pair.is_match and pair.key in _ORDER else len(_ORDER)


def _is_valid(pair: Pair) -> bool:
    if bool(pair.attribute) != (pair.key in _WITH_ATTRIBUTE) and pair.key not in ("RUN", "TEST"):
        return False
    if pair.key in ("PROGRAM", "IMPORT"):
        return True
    if pair.key in _MATCH_ONLY:
        return pair.is_match
    if pair.key in _EITHER:
        return pair.operator != "-=" or pair.key not in ("ATTR", "SYSCTL", "ENV", "NAME")
    return pair.key in _ASSIGN_ONLY and not pair.is_match


def written(files: Iterable[Sequence[Rule]], device: Device) -> dict[str, Written]:
    """What the rules of all files, in the order in which udev reads them, make of each attribute that one names.

    A name may be a pattern; programs that rules run stand under an empty name, with their command lines as the text.
    """
    found: dict[str, Written] = {}
    read: dict[str, Observation] = {}
    for rules in files:
        skip_to, may_skip_to = "", ""
        for number, rule in enumerate(rules):
            labels = {pair.value for pair in rule.pairs if pair.key == "LABEL"}
            skip_to = "" if skip_to in labels else skip_to
            may_skip_to = "" if may_skip_to in labels else may_skip_to
            # udev asks no condition, and so reads no attribute, for a line that does nothing on this device.
            counts = not skip_to and any(_counts(pair, device, rules, number) for pair in rule.pairs)
            holds = _holds(rule, device, found, read) if counts else False
            if holds is False:
                continue
            is_sure = holds is True and not may_skip_to
            _carry_out(rule, is_sure, device, found)
            for pair in rule.pairs:
                if pair.key == "GOTO" and _has_label(rules[number + 1 :], pair.value):
                    skip_to, may_skip_to = (pair.value, may_skip_to) if is_sure else (skip_to, pair.value)
    return found


def of_attribute(found: Mapping[str, Written], attribute: str) -> Written:
    """What rules make of one attribute, programs that they run included."""
    known = found.get(attribute, Written(None, "", ""))
    patterns = [one for name, one in found.items() if name and name != attribute and matches(attribute, name)]
    programs = found.get("", Written("", "", ""))
    # Programs run after all rules. What a local script does is not known.
    last = attribute.rpartition("/")[2]
    said = programs.text or ""
    if any(word in said for word in (last, *_PROGRAMS.get(last, ()))) or _LOCAL.search(said):
        return known._replace(doubt=programs.doubt)
    return known._replace(doubt=patterns[-1].doubt) if patterns else known


def _carry_out(rule: Rule, is_sure: bool, device: Device, found: dict[str, Written]) -> None:
    for pair in rule.pairs:
        if pair.key == "RUN" and not pair.is_match:
            said = found.get("", Written("", "", "")).text
            found[""] = Written(f"{said}\n{pair.value}", rule.place, f"{rule.place} runs a program that may set it")
        if pair.key != "ATTR" or pair.is_match:
            continue
        value = _literal(pair.value, device.chain[0].kernel)
        if is_sure and value is not None and not set(pair.attribute) & set("*?["):
            found[pair.attribute] = Written(value, rule.place, "")
        else:
            known = found.get(pair.attribute, Written(None, "", ""))
            found[pair.attribute] = known._replace(doubt=f"{rule.place} may set it")


def _has_label(after: Sequence[Rule], label: str) -> bool:
    return any(pair.key == "LABEL" and pair.value == label for one in after for pair in one.pairs)


def _literal(value: str, kernel: str | None) -> str | None:
    """The text with what stands for the device's name put in; None where it depends on more."""
    known = {"%%": "%", "$$": "$", "%k": kernel, "$kernel": kernel}
    parts = re.split(r"(%.|\$\$|\$[a-z]+|[$%])", value)
    texts = [known.get(part) if part[:1] in ("$", "%") else part for part in parts]
    return None if None in texts else "".join(text for text in texts if text is not None)


def _holds(rule: Rule, device: Device, found: Mapping[str, Written], read: dict[str, Observation]) -> bool | None:
    """Whether a rule's conditions hold; None where they may. What they read of attributes is added to `read`."""

    def attribute(name: str) -> Observation:
        if name not in read:
            # udev reads an attribute once: what is written later is not seen, what was written before is.
            known = found.get(name)
            if known is None:
                read[name] = device.chain[0].attribute(name)
            else:
                is_sure = known.text is not None and not known.doubt
                read[name] = Value(known.text) if is_sure else Unreadable(known.doubt)
        return read[name]

    own = device.chain[0]._replace(attribute=attribute)
    conditions = [pair for pair in rule.pairs if pair.is_match and pair.key not in _PARENTS]
    parents = [pair for pair in rule.pairs if pair.is_match and pair.key in _PARENTS]
    is_open = any(pair.key in ("PROGRAM", "IMPORT") and not pair.is_match for pair in rule.pairs)
    holds = _all(_matches(pair, own, device) for pair in conditions)
    if parents and holds is not False:
        found_one = _any(_all(_named(pair, one) for pair in parents) for one in (own, *device.chain[1:]))
        holds = _all((holds, found_one))
    return None if holds and is_open else holds


def _all(results: Iterable[bool | None]) -> bool | None:
    """Whether all hold. What comes after one that does not is not looked at."""
    is_open = False
    for result in results:
        if result is False:
            return False
        is_open = is_open or result is None
    return None if is_open else True


def _any(results: Iterable[bool | None]) -> bool | None:
    """Whether one holds. What comes after it is not looked at."""
    is_open = False
    for result in results:
        if result:
            return True
        is_open = is_open or result is None
    return None if is_open else False


def _matches(pair: Pair, own: Named, device: Device) -> bool | None:
    if pair.key in _OWN or pair.key == "ATTR":
        return _named(pair, own)
    if pair.key == "ACTION":
        return _text_matches(pair, "add")
    if pair.key == "ENV":
        known = device.environment.get(pair.attribute)
        return None if known is None else _text_matches(pair, known)
    return None


def _named(pair: Pair, one: Named) -> bool | None:
    """A condition on one device: on a name of it, or on an attribute, which must be there."""
    key = pair.key.rstrip("S")
    if key == "ATTR":
        seen = one.attribute(pair.attribute)
        if not isinstance(seen, Value) or "$" in pair.attribute or "%" in pair.attribute:
            return False if isinstance(seen, Absent) else None
        # Blanks at the end count only for a pattern that has them.
        text = str(seen.value)
        return _text_matches(pair, text if pair.value[-1:].isspace() else text.rstrip())
    name = {"KERNEL": one.kernel, "SUBSYSTEM": one.subsystem, "DRIVER": one.driver}.get(key)
    if name is None:
        is_other = key == "KERNEL" and pair.operator == "==" and set(pair.value.split("|")) <= one.others
        return False if is_other else None
    return _text_matches(pair, name)


def _text_matches(pair: Pair, text: str) -> bool:
    alternatives = pair.value.split("|")[:_ALTERNATIVES_LIMIT]
    found = any(matches(text, one.replace("[^", "[!")) for one in alternatives)
    return found == (pair.operator == "==")
