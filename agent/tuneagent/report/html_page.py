"""One self-contained page: no network, no script but a filter, readable in print, by keyboard and without colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from tuneagent.report.digits import short
from tuneagent.report.terminal import clean

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #b3261e; --warn: #8a5a00; --dim: #57606a;
  --paper: #fff; --ink: #1f2328; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff8182; --warn: #e3b341; --dim: #9aa4af;
  --paper: #0d1117; --ink: #e6edf3; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .dim { color: var(--dim); } code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mark { font-weight: 600; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); }
.warn { color: var(--warn); } summary { cursor: pointer; }
.filter { display: flex; gap: 1rem; flex-wrap: wrap; margin: .5rem 0; } input { font: inherit; padding: .25rem .5rem; }
:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
@media print { .filter { display: none; } body { max-width: none; padding: 0; } tr { break-inside: avoid; } }
"""
# Rows of tables that say nothing of the text that is typed are hidden; without a script all of them are there.
_SCRIPT = """
const box = document.querySelector('#search');
if (box) box.addEventListener('input', () => {
  const wanted = box.value.toLowerCase();
  let shown = 0;
  for (const row of document.querySelectorAll('tr[data-text]')) {
    row.hidden = !row.dataset.text.includes(wanted);
    shown += !row.hidden;
  }
  for (const part of document.querySelectorAll('details')) if (wanted) part.open = true;
  document.querySelector('#shown').textContent = wanted ? shown + ' shown' : '';
});
"""
# A sign beside each word, so that no meaning hangs on a colour alone.
_SIGNS = {"good": "\u2713", "bad": "\u2717", "warn": "\u25b2", "": "\u2013"}


class Mark(NamedTuple):
    """A word that is judged: `good`, `bad`, `warn`, or nothing."""

    word: str
    kind: str = ""


class Interval(NamedTuple):
    """A ratio with its interval."""

    low: float
    ratio: float
    high: float


Cell = str | float | Mark | Interval


def text(value: object) -> str:
    """Text of a host, escaped, without what a terminal would obey."""
    return escape(clean(str(value)))


def page(title: str, lines: Sequence[str], parts: Iterable[str]) -> str:
    """The whole page: title, a line or two about what it is, and its parts, which are HTML already."""
    head = "".join(f'<p class="dim">{text(line)}</p>\n' for line in lines)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{text(title)}</h1>\n{head}{''.join(parts)}</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>"
    )


def listing(label: str, content: str) -> str:
    """Text as it is, such as a file."""
    lines = "\n".join(text(line) for line in content.splitlines())
    return f'<pre tabindex="0" role="region" aria-label="{text(label)}">{lines}</pre>\n'


def section(title: str, body: str) -> str:
    """A part with a heading."""
    return f"<section>\n<h2>{text(title)}</h2>\n{body}</section>\n"


def folded(title: str, body: str) -> str:
    """A part that opens when it is asked for."""
    return f"<details>\n<summary>{text(title)}</summary>\n{body}</details>\n"


def search_box(what: str) -> str:
    """The filter for all tables of the page."""
    return (
        f'<div class="filter"><label>Filter {text(what)} <input id="search" type="search" autocomplete="off"></label>'
        '<span id="shown" role="status" class="dim"></span></div>\n'
    )


def table(label: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; numbers are to the right, and the filter looks at all words of a row."""
    head = "".join(f'<th scope="col">{text(one)}</th>' for one in heads)
    body = "".join(_row(row) for row in rows)
    # What is wider than a narrow screen is reached by keyboard, too.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(label)}">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _row(cells: Sequence[Cell]) -> str:
    words = " ".join(cell.word if isinstance(cell, Mark) else cell for cell in cells if isinstance(cell, (Mark, str)))
    return f'<tr data-text="{text(words.lower())}">{"".join(map(_cell, cells))}</tr>\n'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Mark):
        sign = f'<span aria-hidden="true">{_SIGNS[cell.kind]}</span>'
        return f'<td class="mark {cell.kind}">{sign} {text(cell.word)}</td>'
    if isinstance(cell, Interval):
        return f"<td>{_drawn(cell)}</td>"
    if isinstance(cell, float):
        return f'<td class="number">{short(cell)}</td>'
    return f"<td>{text(cell)}</td>"


def _drawn(one: Interval) -> str:
    """An interval on a scale of half to double, with a line at no difference; what is beyond is cut at the edge."""

    def at(value: float) -> float:
        return 100 + 100 * max(-1.0, min(1.0, math.log2(max(value, 1e-9))))

    told = f"ratio {short(one.ratio)}, between {short(one.low)} and {short(one.high)}"
    low, high = at(one.low), at(one.high)
    return (
        f'<svg viewBox="-6 0 212 16" width="212" height="16" role="img" aria-label="{told}">'
        '<line x1="100" x2="100" y1="0" y2="16" stroke="currentColor" stroke-dasharray="2 2"/>'
        f'<line x1="{low:.1f}" x2="{max(high, low + 1):.1f}" y1="8" y2="8" stroke="currentColor" stroke-width="3"/>'
        f'<circle cx="{at(one.ratio):.1f}" cy="8" r="4" fill="currentColor"/></svg><br>'
        f"{short(one.ratio)} ({short(one.low)} to {short(one.high)})"
    )
