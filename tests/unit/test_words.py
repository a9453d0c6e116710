"""Plain English: phrases that a reader stumbled over stay out of pages, messages and comments."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = ROOT / "tests/words.txt"
PLACES = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/*.md", "agent/**/*.py", "operator/**/*.py",
          "agent/**/*.yaml", "manifests/**/*.yaml", "examples/**/*", "packaging/*", "playbooks/*")  # fmt: skip


def phrases() -> dict[str, str]:
    lines = [line for line in WORDS.read_text().splitlines() if line and not line.startswith("#")]
    return {phrase: better for phrase, _, better in (line.partition(" | ") for line in lines)}


def test_the_list_can_be_read() -> None:
    assert len(phrases()) > 20 and all(phrases().values())


@pytest.mark.parametrize("place", PLACES)
def test_no_page_no_message_and_no_comment_has_one(place: str) -> None:
    paths = [path for path in ROOT.glob(place) if path.is_file() and "__pycache__" not in path.parts]
    assert paths, place
    found = [
        f"{path.relative_to(ROOT)}: {phrase!r}: write {better!r}"
        for path in paths
        for phrase, better in phrases().items()
        # A sentence may be broken over lines.
        if phrase in " ".join(path.read_text(errors="replace").split()).lower()
    ]
    assert found == []
