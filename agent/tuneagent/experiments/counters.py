"""Where a job says how far it is: its output, a file, or its metrics for Prometheus."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from tuneagent.errors import MeasureFailed, ReadFailed, TuneError, UsageError, nearest
from tuneagent.experiments.metrics import Metric, checked
from tuneagent.host.files import Files
from tuneagent.host.http_text import http_text

# Lines of known programs. Sources: Megatron-LM's training log, NeMo's progress bar (NeMo-Framework-Launcher issue 55).
LOGS = {
    "megatron": (r"consumed samples:\s*([0-9]+)", "samples"),
    "nemo": (r"consumed_samples=([0-9.]+(?:e[+-]?[0-9]+)?)", "samples"),
}


class Counter(NamedTuple):
    """One of the two: what a line of the output tells, or what is read now; None where nothing is told."""

    of_line: Callable[[str], float | None] | None = None
    of_now: Callable[[], float | None] | None = None


def counter_of(given: str) -> Counter:
    """The words of `--units`: an expression, file:PATH, or URL#METRIC. Raises UsageError."""
    if given.startswith(("http://", "https://")):
        url, _, name = given.partition("#")
        if not name:
            raise UsageError(f"--units {given}: name the metric behind the URL, as http://127.0.0.1:8000/metrics#NAME")
        return Counter(of_now=lambda: _quiet(lambda: of_metrics(http_text(url), name)))
    metric = Metric(checked(given), "higher")
    if given.startswith("json:"):
        raise UsageError(f"--units {given}: JSON is not read line by line; use an expression")
    if given.startswith("file:"):
        files = Files("/")
        return Counter(of_now=lambda: _quiet(lambda: metric.of("", files.read)))
    return Counter(of_line=lambda line: _quiet(lambda: metric.of(line, lambda _: "")))


def counter_of_log(name: str) -> tuple[Counter, str]:
    """Counter and unit of a known program's log. Raises UsageError."""
    if name not in LOGS:
        raise UsageError(f"--log {name}: unknown{nearest(name, list(LOGS))}; known are {', '.join(LOGS)}")
    expression, unit = LOGS[name]
    return counter_of(expression), unit


def of_metrics(text: str, name: str) -> float:
    """All series of one metric, added up. Raises MeasureFailed."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        found = [
            sample.value for family in text_string_to_metric_families(text) for sample in family.samples
            if sample.name == name
        ]  # fmt: skip
    except ValueError as error:
        raise MeasureFailed(f"no metrics: {error}") from None
    if not found or not math.isfinite(sum(found)):
        raise MeasureFailed(f"no metric {name}, or it is not a number")
    return float(sum(found))


def _quiet(read: Callable[[], float]) -> float | None:
    """A line without a number, or a file that is not there yet, tells nothing."""
    try:
        return read()
    except (MeasureFailed, ReadFailed, TuneError):
        return None
