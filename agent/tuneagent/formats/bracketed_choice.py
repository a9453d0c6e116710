"""Files in which the kernel shows all words that it knows, the chosen one in brackets: `always [madvise] never`."""

from __future__ import annotations


def chosen(text: str) -> str | None:
    """The word in brackets; None where there is none."""
    word, closed, _ = text.partition("[")[2].partition("]")
    return word if closed and word and not any(letter.isspace() for letter in word) else None


def offered(text: str) -> list[str]:
    """All words, in order."""
    return text.replace("[", "").replace("]", "").split()


def with_chosen(text: str, choice: str) -> str:
    """The text as the kernel would show it after this choice."""
    return " ".join(f"[{word}]" if word == choice else word for word in offered(text))
