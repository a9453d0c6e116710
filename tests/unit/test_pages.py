"""The pages: every link leads somewhere, every page is led to, README stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(
    r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)|`((?:docs|tests|tools|packaging|examples|playbooks|manifests)/[\w./-]+)`"
)


def targets(page: Path) -> set[Path]:
    """Files that a page names: by a link, or by a path from the project's root."""
    found = set()
    for link, path in LINK.findall(page.read_text()):
        if link and "://" not in link:
            found.add((page.parent / link).resolve())
        elif path and "NAME" not in path:
            found.add((ROOT / path).resolve())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [str(target) for target in targets(page) if not target.exists()] == []


def test_every_page_is_led_to() -> None:
    named = {path.name for page in PAGES for path in targets(page)} | {
        name for page in PAGES for name in re.findall(r"\b([\w-]+\.md)\b", page.read_text())
    }
    assert [page.name for page in PAGES if page.name not in named and page.name != "README.md"] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
