"""Useful work counted: readings of a counter to units, restarts, lost work and productive time. Pure.

A counter that falls back was restarted from a checkpoint: what lies between is done twice and counts once. Productive
time is what the units that count take at the typical rate, over all of the time: the effective training time ratio of
arXiv:2410.21680, and what ml-goodput-measurement computes of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Reading(NamedTuple):
    """The counter at a time, in seconds since the start."""

    at_s: float
    value: float


class Account(NamedTuple):
    """What was done; None where the readings do not tell."""

    units: float | None
    restarts: int
    lost: float
    start_up_s: float | None
    productive_s: float | None


def account(readings: Sequence[Reading], wall_s: float, first: float = 0.0) -> Account:
    """What a counter that stood at `first` in the beginning tells of `wall_s` seconds."""
    if not readings:
        return Account(None, 0, 0.0, None, None)
    restarts, lost = 0, 0.0
    paces: list[float] = []
    before: Reading | None = None
    for reading in readings:
        if before is not None and reading.value < before.value:
            restarts += 1
            lost += before.value - reading.value
        elif before is not None and reading.value > before.value and reading.at_s > before.at_s:
            paces.append((reading.at_s - before.at_s) / (reading.value - before.value))
        # The same number read again says only that nothing came meanwhile.
        before = reading if before is None or reading.value != before.value else before
    # Where work from before the start was lost as well, nothing useful may be left.
    units = max(readings[-1].value - first, 0.0)
    began = next((one.at_s for one in readings if one.value > first), None)
    productive = min(units * median(paces), wall_s) if paces else None
    return Account(units, restarts, lost, began, productive)


def added_up(readings: Sequence[Reading]) -> list[Reading]:
    """Readings that each tell what came since the one before, as a counter."""
    total, found = 0.0, []
    for one in readings:
        total += one.value
        found.append(Reading(one.at_s, total))
    return found
