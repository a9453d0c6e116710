"""Settings by the names that people have seen: every form that is printed leads back to its settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tuneagent.contracts.report import Finding
from tuneagent.errors import UsageError, nearest
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.tunables.base import AnyTunable

if TYPE_CHECKING:
    # An audit without a journal loads no module of it.
    from tuneagent.engine.applied_settings import Key

_UUID = lazy_regex(r"((?:GPU|MIG)-[0-9a-f]{8})[0-9a-f-]*")
_GIVEN_UUID = lazy_regex(r"(?:GPU|MIG)-[0-9a-f]{4}[0-9a-f-]*")


def short(name: str) -> str:
    """A name with its UUIDs cut to the eight digits that tell the GPUs of a host apart."""
    return _UUID.sub(lambda match: match.group(1), name)


def namer(registry: Mapping[str, AnyTunable]) -> Callable[[str, str], str]:
    """What to call a setting by its tunable and subject, also one of a tunable that this version lacks."""
    return lambda tunable, subject: registry[tunable].title(subject) if tunable in registry else f"{tunable}/{subject}"


def names_of(
    findings: Collection[Finding], keys: Collection[Key], registry: Mapping[str, AnyTunable]
) -> dict[Key, str]:
    """Name of each setting that was found or is held."""
    name_of = namer(registry)
    held = {key: name_of(*key) for key in keys}
    return held | {(one.tunable, one.subject): one.name for one in findings}


def settings_named(word: str, names: Mapping[Key, str]) -> list[Key]:
    """Settings that a word means: all of a tunable, or those that some command prints so. A UUID may be cut short."""
    pattern = _pattern(word)
    return [key for key, name in names.items() if any(pattern.fullmatch(form) for form in _forms(key, name))]


def chosen(words: Sequence[str], names: Mapping[Key, str], tunables: Collection[str]) -> set[Key] | None:
    """Settings that `--only` means, None where it was not given. Raises UsageError for a name of nothing."""
    if not words:
        return None
    found: set[Key] = set()
    for word in words:
        settings = settings_named(word, names)
        if not settings and word not in tunables:
            known = [*tunables, *names.values(), *(key[1] for key in names)]
            raise UsageError(f"--only {word}: no such tunable or setting{nearest(word, known)}")
        _refuse_ambiguous(word, settings)
        found.update(settings)
    return found


def _refuse_ambiguous(word: str, settings: Sequence[Key]) -> None:
    """Raise UsageError for a UUID cut so short that it is the beginning of several."""
    for given in _GIVEN_UUID.findall(word):
        found = {uuid for _, subject in settings for uuid in _GIVEN_UUID.findall(subject) if uuid.startswith(given)}
        if len(found) > 1:
            raise UsageError(f"--only {word}: {given} is the beginning of {', '.join(sorted(found))}; give more of it")


def _forms(key: Key, name: str) -> tuple[str, ...]:
    tunable, subject = key
    rest = name.removeprefix(f"{tunable}/")
    return (tunable, subject, name, rest, f"{tunable} {rest}", f"{tunable}/{rest}", f"{tunable} {subject}",
            f"{tunable}/{subject}")  # fmt: skip


def _pattern(word: str) -> re.Pattern[str]:
    """The word itself, with any end of each UUID that it begins."""
    text, at = "", 0
    for match in _GIVEN_UUID.finditer(word):
        text += re.escape(word[at : match.end()]) + "[0-9a-f-]*"
        at = match.end()
    return re.compile(text + re.escape(word[at:]))
