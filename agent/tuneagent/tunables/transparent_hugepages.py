"""transparentHugepages: when the kernel uses huge pages by itself (Documentation/admin-guide/mm/transhuge.rst)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tuneagent.contracts.values import About, Dispute, Observation, Reading, Severity, Subject, Unreadable, Value
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.bracketed_choice import chosen, with_chosen
from tuneagent.formats.hugetlb_line import size_kib
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.thp_line import state_of
from tuneagent.persist.boot_arguments import at_next_boot
from tuneagent.persist.drop_in import Entries
from tuneagent.persist.tmpfiles_d import TmpfilesD, reading
from tuneagent.tunables.base import Tunable

BASE = "sys/kernel/mm/transparent_hugepage"
# Field of the spec, its file under khugepaged/, and the largest number that makes sense there.
KHUGEPAGED = (
    ("defrag", "defrag", 1),
    ("pages_to_scan", "pages_to_scan", 1 << 22),
    ("scan_sleep_milliseconds", "scan_sleep_millisecs", 3_600_000),
    ("alloc_sleep_milliseconds", "alloc_sleep_millisecs", 3_600_000),
    # One less than the pages of a huge page: 511 with pages of 4 KiB, 8191 with those of 64 KiB.
    ("max_ptes_none", "max_ptes_none", 8191),
)


_STATES = ("always", "madvise", "never")
_SIZE = lazy_regex(r"[1-9]\d{0,3}[KM]i\Z")
_OF_SIZE = lazy_regex(r"thp:hugepages-(\d+)kB/enabled\Z")
SettingValue = int | str


class Khugepaged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The thread that collapses pages: how much it does, and how often."""

    defrag: int | None = None
    pages_to_scan: int | None = None
    scan_sleep_milliseconds: int | None = None
    alloc_sleep_milliseconds: int | None = None
    max_ptes_none: int | None = None


def _size_kib(text: str) -> int | None:
    """KiB of a size such as `64Ki`; None for what is no size of a huge page."""
    kib = size_kib(text.removesuffix("i")) if _SIZE.match(text) else None
    return kib if kib is not None and kib & (kib - 1) == 0 and 8 <= kib <= 1 << 20 else None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is given is set; the rest is left alone."""

    enabled: Literal["always", "madvise", "never"] | None = None
    defrag: Literal["always", "defer", "defer+madvise", "madvise", "never"] | None = None
    khugepaged: Khugepaged | None = None
    sizes: Annotated[
        dict[str, Literal["always", "inherit", "madvise", "never"]] | None,
        Meta(
            description="For pages of one size, such as 64Ki or 2Mi; `inherit` follows `enabled`. Linux 6.8 and later."
        ),
    ] = None


def _path(subject: Subject) -> str:
    return f"{BASE}/{subject.removeprefix('thp:')}"


class TransparentHugepages(Tunable[Spec, SettingValue]):
    """Transparent huge pages."""

    name = "transparentHugepages"
    group = "hugepages"
    spec_type = Spec
    value_type = SettingValue
    prefix = "thp:"
    subject_pattern = r"thp:(enabled|defrag|khugepaged/\w+|hugepages-[0-9]+kB/enabled)"
    about = About(
        Severity.MEDIUM,
        "huge pages reduce TLB misses on large buffers; direct compaction on a page fault stalls the thread",
        ("https://docs.kernel.org/admin-guide/mm/transhuge.html",),
        "memory that is mapped already keeps its pages; new mappings follow the setting",
        dispute=Dispute(
            "always: hpc-compute, AKS; 15 % more on CPU tensors (candle issue 2149)",
            "never: network-latency, OpenShift; from 3.5 to 2.5 tokens/s with always (ik_llama.cpp 278)",
            "madvise; PyTorch and NumPy ask for huge pages themselves",
        ),
    )
    drop_in = TmpfilesD()

    def check(self, spec: Spec) -> list[str]:
        """Numbers out of range."""
        faults = []
        for name, _, limit in KHUGEPAGED:
            value = getattr(spec.khugepaged, name, None)
            if value is not None and not 0 <= value <= limit:
                spelt = next(one.encode_name for one in msgspec.structs.fields(Khugepaged) if one.name == name)
                faults.append(f".khugepaged.{spelt}: {value} is not between 0 and {limit}")
        for size in spec.sizes or {}:
            if _size_kib(size) is None:
                faults.append(f".sizes.{size}: not a power of two from 8Ki to 1024Mi")
        return faults

    def subjects(self, facts: Facts, spec: Spec) -> Sequence[Subject]:
        """The files that the spec names."""
        return sorted(self._wanted(spec))

    @staticmethod
    def _wanted(spec: Spec) -> dict[Subject, SettingValue]:
        wanted: dict[Subject, SettingValue] = {}
        if spec.enabled is not None:
            wanted["thp:enabled"] = spec.enabled
        if spec.defrag is not None:
            wanted["thp:defrag"] = spec.defrag
        for size, state in (spec.sizes or {}).items():
            wanted[f"thp:hugepages-{_size_kib(size)}kB/enabled"] = state
        for name, file, _ in KHUGEPAGED:
            value = getattr(spec.khugepaged, name, None)
            if value is not None:
                wanted[f"thp:khugepaged/{file}"] = value
        return wanted

    def read(self, facts: Facts, subject: Subject) -> Reading:
        """Running value, and what the next boot's own line or tmpfiles.d gives."""
        path = _path(subject)
        convert = int if subject.startswith("thp:khugepaged/") else str
        return reading(facts, path, _live(facts, subject, path), convert, default=_unwritten(facts, subject))

    def desire(self, facts: Facts, spec: Spec, readings: Mapping[Subject, Reading]) -> Mapping[Subject, SettingValue]:
        """The values of the spec."""
        return self._wanted(spec)

    def write(self, facts: Facts, subject: Subject, value: SettingValue) -> None:
        """Write the running value; in a tree the file shows the choice as the kernel would."""
        path = _path(subject)
        if subject.startswith("thp:khugepaged/") or facts.host.files.is_kernel:
            facts.host.files.write(path, f"{value}\n")
            return
        facts.host.files.write(path, with_chosen(facts.host.files.read(path), str(value)) + "\n")

    def entries(self, subject: Subject, value: SettingValue) -> Entries:
        """One `w` line."""
        return {_path(subject): str(value)}


def _unwritten(facts: Facts, subject: Subject) -> Observation | None:
    """What the next boot gives where no file writes it; None where that is not known."""
    if subject == "thp:enabled":
        # The kernel ignores any other word.
        words = [Value(word) for word in at_next_boot(facts, "transparent_hugepage") if word in _STATES]
        return words[-1] if words else None
    match = _OF_SIZE.match(subject)
    if match is None:
        return None
    given = [text for text in at_next_boot(facts, "thp_anon") if isinstance(text, str)]
    state = state_of(given, int(match.group(1)))
    return Value(state) if state else None


def _live(facts: Facts, subject: Subject, path: str) -> Observation:
    seen = facts.host.observe(path)
    if not isinstance(seen, Value):
        return seen
    if subject.startswith("thp:khugepaged/"):
        if not str(seen.value).isdigit():
            return Unreadable(f"/{path}: {seen.value!r} is not a number")
        return Value(int(str(seen.value)))
    word = chosen(str(seen.value))
    return Value(word) if word else Unreadable(f"/{path}: no choice in brackets in {seen.value!r}")


TUNABLE = TransparentHugepages()
