"""CPU lists and masks as the kernel writes them (Documentation/admin-guide/cputopology.rst)."""

from __future__ import annotations

from collections.abc import Iterable

# Far above any machine: a list beyond it is damaged, and expanding it would exhaust the memory.
CPU_LIMIT = 65536


def parse_cpulist(text: str) -> frozenset[int]:
    """CPUs of a list such as `0-3,8,10-14:2`. Raises ValueError naming the part that is wrong."""
    cpus: set[int] = set()
    for part in text.replace("\0", "").strip().split(","):
        if not part.strip():
            continue
        try:
            span, _, step_text = part.partition(":")
            first_text, dash, last_text = span.partition("-")
            first = int(first_text)
            last = int(last_text) if dash else first
            # `0-31:2/8` of the kernel's own syntax means 2 of every 8.
            used, _, group = step_text.partition("/")
            step = int(group) if group else (int(used) if used else 1)
            take = int(used) if group else 1
        except ValueError:
            raise ValueError(f"{part!r} is not a part of a CPU list") from None
        if not 0 <= first <= last < CPU_LIMIT or step < 1 or not 1 <= take <= step:
            raise ValueError(f"{part!r} is not a range of CPUs below {CPU_LIMIT}")
        for start in range(first, last + 1, step):
            cpus.update(range(start, min(start + take, last + 1)))
    return frozenset(cpus)


def format_cpulist(cpus: Iterable[int]) -> str:
    """Shortest list of ranges, `` for none."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_cpumask(text: str) -> frozenset[int]:
    """CPUs of a mask in comma-separated 32-bit words, most significant first, such as `ff,00000001`."""
    words = text.replace("\0", "").strip().split(",")
    if len(words) * 32 > CPU_LIMIT:
        raise ValueError(f"a mask of {len(words)} words is too long")
    cpus: set[int] = set()
    for position, word in enumerate(reversed(words)):
        try:
            bits = int(word, 16)
        except ValueError:
            raise ValueError(f"{word!r} is not a word of a CPU mask") from None
        if not 0 <= bits < 1 << 64:
            raise ValueError(f"{word!r} is not a word of a CPU mask")
        cpus.update(position * 32 + bit for bit in range(bits.bit_length()) if bits >> bit & 1)
    return frozenset(cpus)


def format_cpumask(cpus: Iterable[int]) -> str:
    """Mask in 32-bit words, most significant first."""
    value = sum(1 << cpu for cpu in set(cpus))
    words: list[str] = []
    while value or not words:
        words.append(f"{value & 0xFFFFFFFF:08x}")
        value >>= 32
    return ",".join(reversed(words))
