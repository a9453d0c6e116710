"""Where a command says how well it did: a regular expression on its output, a path in its JSON, or a file."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

from tuneagent.contracts.proof import Better
from tuneagent.errors import MeasureFailed, UsageError
from tuneagent.formats.lazy_regex import lazy_regex

_SHOWN_BYTES = 300
_LEAST, _MOST = 1e-100, 1e100
# What may be meant as one number, well written or not, and what colours a terminal.
_TOKEN = lazy_regex(r"[-+]?\.?\d[\w.,+-]*")
_COLOUR = lazy_regex(r"\x1b\[[0-9;?]*[A-Za-z]")
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"


class Metric(NamedTuple):
    """One number of each run, and which direction is better."""

    name: str
    better: Better

    def of(self, output: str, read: Callable[[str], str]) -> float:
        """The number in a run's output, or in the file that `read` gives. Raises MeasureFailed."""
        kind, _, place = self.name.partition(":")
        if kind == "json" and place:
            found = _in_json(output, place)
        elif kind == "file" and place:
            lines = read(place).split()
            found = _number(lines[-1] if lines else "", f"/{place.lstrip('/')}")
        else:
            found = _matched(output, self.name)
        if not is_usable(found):
            raise MeasureFailed(f"metric {self.name}: {found:g} is not a number above 0")
        return found


def is_usable(value: float) -> bool:
    """Whether it is a number that a ratio can be made of."""
    return _LEAST <= value <= _MOST


def checked(name: str) -> str:
    """The words of `--metric`. Raises UsageError for a regular expression or a path that cannot be used."""
    kind, _, place = name.partition(":")
    if kind in ("json", "file"):
        if not place:
            raise UsageError(f"--metric {name}: expected {kind}:PATH")
        return name
    try:
        with warnings.catch_warnings():
            # What a later Python may read in another way, such as `[[`, is refused too.
            warnings.simplefilter("error", FutureWarning)
            groups = re.compile(name).groups
    except (re.error, FutureWarning) as error:
        raise UsageError(f"--metric {name}: not a regular expression: {error}") from None
    if groups > 1:
        raise UsageError(f"--metric {name}: at most one group, the number; use (?:...) for others")
    return name


def _matched(output: str, expression: str) -> float:
    """The last match: programs print their result at the end."""
    plain = _COLOUR.sub("", output)
    found = list(re.finditer(expression, plain))
    if not found:
        raise MeasureFailed(f"metric {expression}: nothing matches in the output: {_shown(plain)}")
    match = found[-1]
    if match.re.groups:
        return _number(match.group(1) or "", f"metric {expression}")
    # Without a group it is the number in the match, or the one behind it.
    inside = _TOKEN.findall(match.group(0))
    if len(inside) > 1:
        raise MeasureFailed(f"metric {expression}: several numbers in {match.group(0)[:80]!r}; put the one in a group")
    behind = _TOKEN.search(plain[match.end() :].split("\n", 1)[0])
    if not inside and behind is None:
        raise MeasureFailed(f"metric {expression}: no number in or behind {match.group(0)[:80]!r}")
    return _number(inside[0] if inside else behind.group(0) if behind else "", f"metric {expression}")


def _in_json(output: str, path: str) -> float:
    """A dotted path in the output, or in its last line that is JSON."""
    for text in (output, *reversed(output.splitlines())):
        try:
            found: object = json.loads(text)
        except ValueError:
            continue
        for part in path.split("."):
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.lstrip("-").isdigit() and -len(found) <= int(part) < len(found):
                found = found[int(part)]
            else:
                raise MeasureFailed(f"metric json:{path}: no {part!r} in the output's JSON")
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise MeasureFailed(f"metric json:{path}: {str(found)[:80]!r} is not a number")
        return float(found)
    raise MeasureFailed(f"metric json:{path}: the output is not JSON: {_shown(output)}")


def _number(text: str, where: str) -> float:
    """A text that is one number and nothing else, but for a unit behind it."""
    match = re.fullmatch(rf"\s*({_NUMBER})\s?(?:[A-Za-z%/]+)?\s*", text)
    if match is None:
        raise MeasureFailed(f"{where}: {text.strip()[:80]!r} is not a number")
    return float(match.group(1))


def _shown(text: str) -> str:
    return repr(text.strip()[-_SHOWN_BYTES:]) if text.strip() else "it is empty"
