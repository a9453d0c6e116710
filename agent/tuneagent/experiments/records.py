"""Recorded hosts: what the quiet set measured on them, and where a host stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from tuneagent.contracts.probe import ProbeReport, ProbeResult
from tuneagent.errors import UsageError
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.host import paths
from tuneagent.host.shipped import shipped_folder

_LIMIT_BYTES = 1024 * 1024
# Which CPU or node it was says nothing about another host.
_PLACE = lazy_regex(r"(?:CPU \d+|node \d+|isolated)\Z")
_BETWEEN = lazy_regex(r"CPUs of node (\d+), memory of node (\d+)\Z")
_PAIR = lazy_regex(r"(?:two CPUs of node \d+|nodes \d+ and \d+)\Z")


class Standing(NamedTuple):
    """One kind of case of a probe: here, and on recorded hosts by their names."""

    name: str
    unit: str
    better: str
    here: float
    there: tuple[tuple[str, float], ...]

    @property
    def beaten(self) -> int:
        """How many recorded hosts are not better."""
        return sum(value <= self.here if self.better == "higher" else value >= self.here for _, value in self.there)


def shipped_records() -> list[ProbeReport]:
    """The recorded hosts that come with the program. Raises UsageError for one that cannot be read."""
    folder = shipped_folder("records")
    found = []
    for name in sorted(one for one in paths.names(folder) if one.endswith(".json")):
        try:
            found.append(msgspec.json.decode(paths.read_whole(f"{folder}/{name}", _LIMIT_BYTES), type=ProbeReport))
        except msgspec.MsgspecError as error:
            raise UsageError(f"{folder}/{name}: not a document of `tuneagent probe run`: {error}") from None
    return found


def standings(here: ProbeReport, records: Iterable[ProbeReport]) -> list[Standing]:
    """Each kind of case that this host and a recorded one of its architecture have."""
    alike = [one for one in records if one.host.arch == here.host.arch]
    values = {(probe.name, kind): value for one in here.probes for probe, kind, value in _kinds([one])}
    by_host = [(one.host.name or "?", {(p.name, k): v for p, k, v in _kinds(one.probes)}) for one in alike]
    about = {one.name: one for one in here.probes}
    return [
        Standing(
            name=f"{name}, {kind}" if kind else name,
            unit=about[name].unit,
            better=about[name].better,
            here=value,
            there=tuple((host, known[(name, kind)]) for host, known in by_host if (name, kind) in known),
        )
        for (name, kind), value in values.items()
        if any((name, kind) in known for _, known in by_host)
    ]


def _kinds(probes: Sequence[ProbeResult]) -> list[tuple[ProbeResult, str, float]]:
    """The median of each kind of case."""
    found: list[tuple[ProbeResult, str, float]] = []
    for probe in probes:
        by_kind: dict[str, list[float]] = {}
        for case in probe.cases:
            if case.value is not None:
                by_kind.setdefault(kind_of(case.name), []).append(case.value)
        found += [(probe, kind, median(values)) for kind, values in by_kind.items()]
    return found


def kind_of(case: str) -> str:
    """A case without the numbers of its CPUs and nodes."""
    between = _BETWEEN.match(case)
    if between:
        return "memory of its own node" if between.group(1) == between.group(2) else "memory of another node"
    if _PAIR.match(case):
        return "within a node" if case.startswith("two") else "between nodes"
    return ", ".join(part for part in case.split(", ") if not _PLACE.match(part))
