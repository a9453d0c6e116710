"""Hypothesis profiles: few examples in a test run, many in `make soak`."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("soak", max_examples=5000, deadline=None)
if os.environ.get("TUNEAGENT_SOAK"):
    settings.load_profile("soak")
