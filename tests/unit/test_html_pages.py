"""Pages for a browser: well-formed, self-contained, nothing of a host taken for markup."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuneagent.contracts.goodput import Goodput, Loss
from tuneagent.contracts.measurement import MeasuredAgain
from tuneagent.contracts.playbook import PlaybookResult, Step
from tuneagent.contracts.probe import ProbeReport
from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.contracts.report import HostName
from tuneagent.report.experiment_pages import again_page, goodput_page, playbook_page, probe_page, proof_page
from tuneagent.report.html_page import Interval, Mark, listing, page, section, table
from tuneagent.report.terminal import clean

FIXTURES = Path(__file__).parents[1] / "fixtures"
HOSTILE = '<script>alert("x")</script>&amp;\x1b[31m\u202e'
EMPTY = ("meta", "line", "circle", "br", "input", "link")


class Reader(HTMLParser):
    """Every element closed in its order, and nothing from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.labels: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        given_attributes = dict(attrs)
        assert not {"src", "href", "onclick", "onload"} & set(given_attributes)
        if given_attributes.get("role") == "region":
            self.labels.append(given_attributes["aria-label"] or "")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag


def metric(name: str) -> MetricProof:
    return MetricProof(
        name=name, better="higher", baseline=1.0, tuned=2.0, ratio=2.0, low=0.1, high=50.0, noise=0.1, runs=16, more_runs=None,
        verdict="better",
    )  # fmt: skip


def documents(name: str) -> dict[str, Callable[[], str]]:
    host = HostName(name=name, kernel=name, cpus=2)
    proof = Proof(host=name, profile=name, settings=1, metrics=(metric(name),), kept=True, why=name)
    result = PlaybookResult(
        playbook=name, host=host, processor=name, taken=0.0, final=proof, profile=f"# {name}\n",
        steps=(Step(name=name, outcome="kept", why=name, metrics=(metric(name),)), Step(name="b", outcome="failed", why=name)),
        left_out=(Step(name=name, outcome="undone", why=name),),
    )  # fmt: skip
    again = MeasuredAgain(host=host, before=host, taken=0.0, metrics=(metric(name),), missing=(name,))
    goodput = Goodput(
        host=host, subject=name, exit_code=0, wall_seconds=1.0, unit=name, units=None, per_second=None, peak_per_second=None,
        efficiency=None, restarts=0, lost_units=0.0, start_up_seconds=None, productive_share=None, joules=None,
        units_per_joule=None, dollars=None, units_per_dollar=None, losses=(Loss(name=name, value=1.0, unit="%", source=name),),
    )  # fmt: skip
    return {
        "proof": lambda: proof_page(proof), "playbook": lambda: playbook_page(result), "again": lambda: again_page(again),
        "goodput": lambda: goodput_page(goodput),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["plain", HOSTILE])
@pytest.mark.parametrize("kind", ["proof", "playbook", "again", "goodput"])
def test_a_page_is_well_formed_whatever_a_host_says(kind: str, name: str) -> None:
    text = documents(name)[kind]()
    read = Reader(text)
    assert read.seen.count("script") == 1
    assert read.seen.count("h1") == 1
    assert len(set(read.labels)) == len(read.labels)
    assert "alert(" not in text or "&lt;script&gt;alert(" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("views/html/*.html")), ids=lambda path: path.stem)
def test_an_audit_is_well_formed(path: Path) -> None:
    read = Reader(path.read_text())
    assert read.seen.count("h1") == 1
    assert "http" not in path.read_text().replace("https://", "http")[:2000]
    assert len(set(read.labels)) == len(read.labels)


def test_probes_of_real_gpus_as_a_page() -> None:
    for path in sorted(FIXTURES.glob("probes/*.json")):
        text = probe_page(msgspec.json.decode(path.read_bytes(), type=ProbeReport))
        read = Reader(text)
        assert len(set(read.labels)) == len(read.labels)


@given(st.text(max_size=40), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_no_cell_breaks_a_table(word: str, low: float, high: float) -> None:
    cells = (word, Mark(word, "bad"), 3.5, Interval(min(low, high), low, max(low, high)))
    Reader(page(word, [word], [section(word, table(word, (word, "b", "c", "d"), [cells]))]))


def test_what_turns_the_direction_of_a_line_is_shown_as_a_mark() -> None:
    # U+202E makes `txt.exe` of `exe.txt`: https://trojansource.codes
    assert clean("a\u202egnp.exe\u2066b\u200f\u2028c") == "a?gnp.exe?b??c"
    assert clean("größe 大小 \u00b5s") == "größe 大小 \u00b5s"
    assert "tune: {}\n  second" in listing("x", "tune: {}\n  second")
