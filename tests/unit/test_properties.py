"""Properties of parsers, planners and the journal."""

from __future__ import annotations

import msgspec
from fuzz import parsers
from hypothesis import given
from hypothesis import strategies as st
from tuneagent.contracts.journal import Record, SubjectRecord
from tuneagent.contracts.values import Lifetime
from tuneagent.engine.applied_settings import compact, fold
from tuneagent.engine.journal_lines import VERSION, decode, encode
from tuneagent.formats import kernel_line
from tuneagent.formats.cpulist import format_cpulist, format_cpumask, parse_cpulist, parse_cpumask
from tuneagent.gpu.mig.board import MigProfile
from tuneagent.gpu.mig.planner import Wanted, place
from tuneagent.persist import sysctl_d, tmpfiles_d

CPUS = st.frozensets(st.integers(0, 1023), max_size=200)
H100 = [
    MigProfile("1g.10gb", 19, 1, 7, 9984, (0, 1, 2, 3, 4, 5, 6), 1),
    MigProfile("1g.20gb", 15, 1, 4, 20096, (0, 2, 4, 6), 2),
    MigProfile("2g.20gb", 14, 2, 3, 20096, (0, 2, 4), 2),
    MigProfile("3g.40gb", 9, 3, 2, 40448, (0, 4), 4),
    MigProfile("4g.40gb", 5, 4, 1, 40448, (0,), 4),
    MigProfile("7g.80gb", 0, 7, 1, 81152, (0,), 8),
]
SIZES = {profile.name: profile.size for profile in H100}


@given(CPUS)
def test_cpulist_and_mask_round_trip(cpus: frozenset[int]) -> None:
    assert parse_cpulist(format_cpulist(cpus)) == cpus
    assert parse_cpumask(format_cpumask(cpus)) == cpus


@given(st.binary(max_size=300) | st.sampled_from(parsers.SEEDS))
def test_no_input_fails_a_parser(data: bytes) -> None:
    parsers.one_input(data)


@given(st.text(max_size=60))
def test_parsers_answer_or_raise_value_error(text: str) -> None:
    for parser in (parse_cpulist, parse_cpumask):
        try:
            parser(text)
        except ValueError:
            continue


@given(st.text(max_size=200), st.text(alphabet='abcxyz_-.=" ', max_size=20))
def test_line_parsers_never_raise(text: str, name: str) -> None:
    sysctl_d.parse(text)
    tmpfiles_d.parse(text)
    kernel_line.values_of(text, name or "x")


@given(st.dictionaries(st.from_regex(r"vm\.[a-z_]{1,12}", fullmatch=True), st.integers(0, 10**9).map(str), max_size=8))
def test_own_sysctl_file_reads_back(entries: dict[str, str]) -> None:
    assert sysctl_d.parse("".join(f"{key} = {value}\n" for key, value in sorted(entries.items()))) == entries


@given(
    st.lists(
        st.tuples(st.sampled_from([p.name for p in H100]), st.integers(1, 7)), max_size=4, unique_by=lambda w: w[0]
    ),
    st.lists(st.tuples(st.sampled_from([p.name for p in H100]), st.integers(0, 6), st.booleans()), max_size=7),
)
def test_mig_layout_is_legal_and_stable(wanted: list[tuple[str, int]], present: list[tuple[str, int, bool]]) -> None:
    requests = [Wanted(name, count) for name, count in wanted]
    there = {(name, start): busy for name, start, busy in present}
    placed = place(H100, requests, there)
    if isinstance(placed, str):
        return
    counts: dict[str, int] = {}
    taken: set[int] = set()
    for name, start in placed:
        counts[name] = counts.get(name, 0) + 1
        slots = set(range(start, start + SIZES[name]))
        assert not slots & taken
        taken |= slots
    assert counts == dict(wanted)
    # What is there already and satisfies the request stays as it is.
    again = place(H100, requests, dict.fromkeys(placed, True))
    assert again == placed


def test_mig_finds_layouts_that_greedy_placement_misses() -> None:
    # The vendor's guide shows 19,19,14,9 failing on A100 when the driver places them one by one.
    requests = [Wanted("1g.10gb", 2), Wanted("2g.20gb", 1), Wanted("3g.40gb", 1)]
    placed = place(H100, requests, {})
    assert isinstance(placed, list)
    assert [name for name, _ in placed] == ["2g.20gb", "1g.10gb", "1g.10gb", "3g.40gb"]


STEPS = st.sampled_from(["intended", "done", "verified", "reverted", "left", "undone"])
RECORDS = st.lists(
    st.builds(
        lambda step, subject, prior, wrote, boot: Record(
            step=step, time=1.0, plan="p", tunable="t", lifetime=Lifetime.BOOT, boot_id=boot,
            subjects=(SubjectRecord(subject=subject, prior=prior, wrote=wrote),),
        ),
        STEPS, st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3), st.sampled_from(["b0", "b1"]),
    ),
    max_size=12,
)  # fmt: skip


@given(RECORDS)
def test_journal_round_trips_and_any_cut_keeps_a_prefix(records: list[Record]) -> None:
    data = b"".join(encode(record) for record in records)
    whole = decode(data)
    assert (list(whole.records), whole.foreign, whole.sound) == (records, (), len(data))
    for cut in {0, len(data) // 3, len(data) // 2, max(len(data) - 1, 0)}:
        found = list(decode(data[:cut]).records)
        assert found == records[: len(found)]


@given(RECORDS)
def test_compaction_keeps_what_is_held(records: list[Record]) -> None:
    held = {key: (item.baseline, item.wrote, item.boot_id) for key, item in fold(records).items()}
    kept = {key: (item.baseline, item.wrote, item.boot_id) for key, item in fold(compact(records)).items()}
    assert kept == held


@given(RECORDS)
def test_journal_of_a_newer_version_is_read_and_of_a_later_one_refused(records: list[Record]) -> None:
    from tuneagent.errors import JournalError

    lines = [encode(record) for record in records]
    newer = [line.replace(b'{"v":%d,' % VERSION, b'{"v":%d,' % (VERSION + 1)) for line in lines]
    assert list(decode(b"".join(newer)).records) == records
    later = [line.replace(b'{"v":%d,' % VERSION, b'{"v":%d,' % (VERSION + 2)) for line in lines]
    if lines:
        try:
            decode(b"".join(later) + lines[0])
        except JournalError as error:
            assert f"version {VERSION + 2}" in str(error)
        else:
            raise AssertionError("a journal of a later version was read")


def test_report_types_round_trip() -> None:
    entry = SubjectRecord(subject="key:a", prior={"ratio": 20}, wrote={"bytes": 1})
    assert msgspec.json.decode(msgspec.json.encode(entry), type=SubjectRecord) == entry
