"""Files in which the kernel shows all words that it knows, the chosen one in brackets: `always [madvise] never`."""

from __future__ import annotations

from tuneagent.formats.lazy_regex import lazy_regex

_CHOSEN = lazy_regex(r"\[([^\]\s]+)\]")


def chosen(text: str) -> str | None:
    """The word in brackets; None where there is none."""
    match = _CHOSEN.search(text)
    return match.group(1) if match else None


def offered(text: str) -> list[str]:
    """All words, in order."""
    return text.replace("[", "").replace("]", "").split()


def with_chosen(text: str, choice: str) -> str:
    """The text as the kernel would show it after this choice."""
    return " ".join(f"[{word}]" if word == choice else word for word in offered(text))
