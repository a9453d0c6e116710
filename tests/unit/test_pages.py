"""The pages: every link leads somewhere, every page is led to, README stays short."""

from __future__ import annotations

import re
import subprocess
import sys
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
    entries = re.findall(r"^[\w-]+$", (ROOT / "docs/index.md").read_text(), re.MULTILINE)
    named |= {f"{entry}.md" for entry in entries}
    assert [page.name for page in PAGES if page.name not in named and page.name not in ("README.md", "index.md")] == []


def test_the_site_is_built_and_no_link_of_it_is_broken(tmp_path: Path) -> None:
    """As `make docs` does it: a link, a page or a heading that is not there is an error."""
    strict = ["--quiet", "--nitpicky", "--fail-on-warning"]
    argv = [sys.executable, "-m", "sphinx", *strict, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site/searchindex.js").exists()
    # A page that no contents name would be found by search alone.
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in tmp_path.glob("site/*.html")}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_messages_of_the_troubleshooting_page_are_ours() -> None:
    """Each part of a heading that stands between `…` is a part of a string in the code."""
    code = "".join(path.read_text() for room in ("agent", "operator") for path in sorted((ROOT / room).rglob("*.py")))
    # Strings over several lines, and what stands between braces, are one text.
    text = re.sub(r"\{[^{}]*\}", "…", re.sub(r'"\s*\n\s*f?"', "", code))
    headings = re.findall(r"^### (.*)$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    parts = {part for heading in headings for quoted in re.findall(r"`([^`]+)`", heading) for part in quoted.split("…")}
    assert len(parts) > 30
    assert sorted(part for part in parts if part.strip(" ?(),") and part.strip(" ?") not in text) == []
