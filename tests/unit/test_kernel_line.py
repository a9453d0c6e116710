"""The kernel's command line, as lib/cmdline.c takes it apart: random lines against that algorithm, letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuneagent.formats.hugetlb_line import default_size, reserved, size_kib
from tuneagent.formats.kernel_line import arguments, split_line, values_of


def next_args(line: str) -> list[tuple[str, str | None]]:
    """What the kernel's loop does to its buffer, with indices as it has them."""
    found: list[tuple[str, str | None]] = []
    rest = line.lstrip()
    while rest:
        equals, in_quote, quoted = 0, False, False
        if rest[0] == '"':
            rest, in_quote, quoted = rest[1:], True, True
        end = 0
        while end < len(rest):
            if rest[end].isspace() and not in_quote:
                break
            if equals == 0 and rest[end] == "=":
                equals = end
            if rest[end] == '"':
                in_quote = not in_quote
            end += 1
        word = rest[:end]
        value: str | None = None
        if equals:
            param, value = word[:equals], word[equals + 1 :]
            if value.startswith('"'):
                # The last letter is looked at in the buffer: it may be this very quote.
                value = value[1:]
                if word.endswith('"') and len(word) > equals + 1:
                    value = value[:-1] if value else value
            elif quoted and word.endswith('"'):
                value = value[:-1]
        else:
            param = word[:-1] if quoted and word.endswith('"') else word
        found.append((param, value))
        rest = rest[end:].lstrip()
    return found


@given(st.text(alphabet='ab="= \t-_,', max_size=30))
def test_random_lines(line: str) -> None:
    assert arguments(line) == next_args(line)


@pytest.mark.parametrize(
    ("line", "name", "values"),
    [
        ('root=/dev/sda "isolcpus=managed_irq,2-7" quiet', "isolcpus", ["managed_irq,2-7"]),
        ('isolcpus="managed_irq,2-7"', "isolcpus", ["managed_irq,2-7"]),
        ("pci=disable_acs_redir=pci:10de:2330", "pci", ["disable_acs_redir=pci:10de:2330"]),
        ("iommu=pt iommu=pt", "iommu", ["pt", "pt"]),
        ("transparent-hugepage=never", "transparent_hugepage", ["never"]),
        ("quiet -- quiet", "quiet", [True]),
        ('x="a b" y', "x", ["a b"]),
        ('dyndbg="file x +p', "dyndbg", ["file x +p"]),
        ("", "quiet", []),
    ],
)
def test_values(line: str, name: str, values: list[str | bool]) -> None:
    assert values_of(line, name) == values


def test_words_have_no_quotes() -> None:
    assert split_line('a "b=c d" e="f"') == ["a", "b=c d", "e=f"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hugepages=8", {2048: 8}),
        ("hugepagesz=1G hugepages=16", {1048576: 16}),
        ("default_hugepagesz=1G hugepagesz=1G hugepages=16", {1048576: 16}),
        ("default_hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512", {1048576: 4, 2048: 512}),
        ("hugepages=4 default_hugepagesz=1G", {1048576: 4}),
        ("hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=2", {2048: 64, 1048576: 2}),
        ("hugepagesz=1G hugepages=0:3,1:4", {1048576: {0: 3, 1: 4}}),
        # A size that is not offered, or that comes twice, makes the kernel ignore the next count.
        ("hugepagesz=16M hugepages=5", {}),
        ("hugepagesz=1G hugepages=2 hugepagesz=1G hugepages=9", {1048576: 2}),
        ("hugepagesz=16M hugepages=5 hugepages=6", {2048: 6}),
        # What stands before any size is for the default one, unless that has a count of its own.
        ("hugepages=1 hugepagesz=2M hugepages=5", {2048: 5}),
        ("hugepages=1 hugepagesz=1G hugepages=5", {2048: 1, 1048576: 5}),
        ("hugepages=x", {}),
        ("hugepages", {}),
        ("quiet -- hugepages=4", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_huge_pages_on_a_kernel_line(line: str, found: dict[int, object]) -> None:
    default = default_size(line) or 2048
    assert reserved(line, default, (2048, 1048576)) == found


@pytest.mark.parametrize(
    ("text", "kib"), [("2M", 2048), ("1g", 1048576), ("2097152", 2048), ("64K", 64), ("x", None), ("", None)]
)
def test_sizes_on_a_kernel_line(text: str, kib: int | None) -> None:
    assert size_kib(text) == kib
