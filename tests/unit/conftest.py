"""Hypothesis profiles: few examples in a test run, many in `make soak`. Machines whose local time is not UTC."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("soak", max_examples=5000, deadline=None)
if os.environ.get("TUNEAGENT_SOAK"):
    settings.load_profile("soak")


def _in_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours before UTC."""
    yield from _in_zone(monkeypatch, "XYZ-9")


@pytest.fixture
def far_west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Twelve hours after UTC: the local day is still the one before."""
    yield from _in_zone(monkeypatch, "XYZ+12")
