"""Values of settings as people write them: `16 GiB`, `20 %`, `off`, never JSON, and what an observation says."""

from __future__ import annotations

from collections.abc import Mapping

from tuneagent.contracts.values import Absent, Observation, Setting, Value

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")
# How a field's name ends, and how its number is written.
_UNITS = {"KiB": "KiB", "MiB": "MiB", "GiB": "GiB", "bytes": "bytes", "Bytes": "bytes"}
_SIGNS = {
    "ratio": "%",
    "Percent": "%",
    "Seconds": "s",
    "Milliseconds": "ms",
    "Watts": "W",
    "Celsius": "C",
    "MHz": "MHz",
}
_LIST_LIMIT = 6


# What a switch is, and what the answer to a question is.
SWITCH, ANSWER = ("off", "on"), ("no", "yes")


def in_words(value: Setting, *, question: bool = False) -> str:
    """A value in words. `question` is of a check, which is answered by yes or no; a setting is on or off."""
    return _spoken(value, ANSWER if question else SWITCH)


def seen_in_words(observation: Observation | None) -> str:
    """What was read, or why it was not."""
    if isinstance(observation, Value):
        return in_words(observation.value)
    if observation is None:
        return "-"
    return observation.why if isinstance(observation, Absent) else f"not read: {observation.error}"


def size(count: int, unit: str = "bytes") -> str:
    """A size in the largest unit in which it is a whole number, or has one digit after the decimal point."""
    count *= 1024 ** _SIZES.index(unit)
    power = 0
    while power < len(_SIZES) - 1 and count >= 1024 ** (power + 1):
        power += 1
    scaled = count / 1024**power
    return f"{scaled:.0f} {_SIZES[power]}" if scaled == int(scaled) else f"{scaled:.1f} {_SIZES[power]}"


def _spoken(value: Setting, words: tuple[str, str]) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return words[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return _fields(value, words)
    if isinstance(value, (list, tuple)):
        return _list([_spoken(one, words) for one in value])
    return str(value)


def _list(parts: list[str]) -> str:
    if not parts:
        return "none"
    if len(set(parts)) == 1 and len(parts) > 1:
        return f"{parts[0]} ({len(parts)} times)"
    rest = len(parts) - _LIST_LIMIT
    return ", ".join(parts[:_LIST_LIMIT]) + (f" and {rest} more" if rest > 0 else "")


def _fields(value: Mapping[object, object], words: tuple[str, str]) -> str:
    if all(isinstance(one, bool) for one in value.values()):
        return ", ".join(f"{'' if one else 'not '}{name}" for name, one in value.items()) or "none"
    parts = [_field(str(name), one, words, alone=len(value) == 1) for name, one in value.items()]
    # What many things have in common is said once.
    same = {_spoken(one, words) for one in value.values()}
    if len(value) > 2 and len(same) == 1:
        return f"{same.pop()} ({len(value)} of them)"
    return _list(parts)


def _field(name: str, value: object, words: tuple[str, str], *, alone: bool) -> str:
    text = _spoken(value, words)
    if isinstance(value, int) and not isinstance(value, bool):
        unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), None)
        sign = next((sign for end, sign in _SIGNS.items() if name.endswith(end)), None)
        text = size(value, unit) if unit else f"{value} {sign}" if sign else text
    return text if alone else f"{name} {text}"
