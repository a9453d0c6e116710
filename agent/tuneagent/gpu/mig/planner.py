"""Exact placement of MIG instances: the layout wanted, keeping as many present instances as possible. Pure.

A layout is legal if placements do not overlap and the compute slices stay within the card's total
(MIG user guide, supported profiles). At most twelve slots and seven instances: small enough to search whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tuneagent.gpu.mig.board import MigProfile

Placed = tuple[str, int]
SEARCH_LIMIT = 200_000


class Wanted(msgspec.Struct, frozen=True):
    """Instances of one profile: a count, or the exact starts."""

    profile: str
    count: int
    starts: tuple[int, ...] = ()


def place(
    profiles: Sequence[MigProfile], wanted: Sequence[Wanted], present: Mapping[Placed, bool]
) -> list[Placed] | str:
    """Placements for `wanted`, by start; or the reason why there are none.

    `present` is what is there now, True where it is in use. An instance in use is kept before any other.
    """
    known = {profile.name: profile for profile in profiles}
    for item in wanted:
        profile = known.get(item.profile)
        if profile is None:
            return f"this card has no profile {item.profile}; it has {', '.join(sorted(known))}"
        if item.count > profile.max_instances:
            return f"{item.count} x {item.profile}: the card takes at most {profile.max_instances}"
        bad = [start for start in item.starts if start not in profile.starts]
        if bad:
            starts = ", ".join(map(str, profile.starts))
            return f"{item.profile} cannot start at slice {bad[0]}, only at {starts}"
    items = [
        (known[item.profile], item.starts[number] if item.starts else None)
        for item in wanted
        for number in range(item.count)
    ]
    items.sort(key=lambda pair: (-pair[0].size, -pair[0].slices, pair[0].name, -1 if pair[1] is None else pair[1]))
    budget = max((profile.slices for profile in profiles), default=0)
    if sum(profile.slices for profile, _ in items) > budget:
        return f"needs {sum(profile.slices for profile, _ in items)} compute slices, the card has {budget}"
    search = _Search(items, present)
    search.step(0, [], 0)
    if search.best is None:
        return "these instances do not fit on this card together"
    return sorted(search.best, key=lambda placed: placed[1])


class _Search:
    """Depth-first over placements; remembers the best whole layout."""

    def __init__(self, items: Sequence[tuple[MigProfile, int | None]], present: Mapping[Placed, bool]) -> None:
        self.items = items
        self.present = present
        self.best: list[Placed] | None = None
        self.best_score = -1
        self.steps = 0

    def step(self, number: int, chosen: list[Placed], taken: int) -> None:
        """Place item `number` and those after it; `taken` is the mask of slots in use."""
        self.steps += 1
        if self.steps > SEARCH_LIMIT:
            return
        if number == len(self.items):
            score = sum(1000 if self.present[placed] else 1 for placed in chosen if placed in self.present)
            if score > self.best_score:
                self.best, self.best_score = list(chosen), score
            return
        profile, pinned = self.items[number]
        # Equal items in rising order only: their permutations are the same layout.
        floor = chosen[-1][1] if chosen and chosen[-1][0] == profile.name and pinned is None else -1
        for start in profile.starts:
            mask = ((1 << profile.size) - 1) << start
            if taken & mask or start <= floor or (pinned is not None and start != pinned):
                continue
            self.step(number + 1, [*chosen, (profile.name, start)], taken | mask)
