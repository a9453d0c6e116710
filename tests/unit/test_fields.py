"""The fields of a document as rows, from its types."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from tuneagent.report.fields import FieldRow, field_rows, takes_of


class Part(msgspec.Struct, rename="camel"):
    """A part."""

    size_kib: Annotated[int, Meta(ge=1, le=9)]
    inner: tuple[Part, ...] = ()


class Many(msgspec.Struct):
    """More fields than a row names."""

    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0


class Whole(msgspec.Struct):
    """A whole."""

    part: Part
    mode: Annotated[Literal["on", "off"] | None, Meta(description="Which.")] = None
    share: Annotated[str, Meta(pattern=r"^[0-9]+%$")] | Annotated[int, Meta(ge=0)] = "10%"
    many: tuple[Many, ...] = ()
    named: dict[str, Part] = {}
    day: date | None = None
    anything: object = None
    least: Annotated[float, Meta(le=2)] = 1.5
    flag: bool = False


def test_every_field_has_a_row() -> None:
    rows = {row.path: row for row in field_rows(Whole)}
    assert rows["part"] == FieldRow("part", "{sizeKib, inner}", True, "", "A part.")
    assert rows["part.sizeKib"] == FieldRow("part.sizeKib", "whole number from 1 to 9", True, "", "")
    # A part that holds itself is entered once.
    assert "part.inner" in rows and "part.inner[].sizeKib" not in rows
    assert rows["mode"] == FieldRow("mode", "off, on", False, "", "Which.")
    assert rows["share"].takes == "percentage or whole number, at least 0" and rows["share"].default == "10%"
    assert rows["many"].takes == "list of objects" and rows["many[].e"].default == "0"
    assert rows["named"].takes == "map of names to {sizeKib, inner}" and "named.<name>.sizeKib" in rows
    assert (rows["day"].takes, rows["anything"].takes) == ("date", "any value")
    assert (rows["least"].takes, rows["least"].default) == ("number, at most 2", "1.5")
    assert (rows["flag"].takes, rows["flag"].default) == ("true or false", "false")


def test_a_map_has_no_fields() -> None:
    assert field_rows(dict[str, int | str]) == []
    assert takes_of(dict[str, int | str]) == "map of names to whole number or text"
    assert takes_of(dict[str, Literal["a"]]) == "map of names to a"
