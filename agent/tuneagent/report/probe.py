"""Probes in words: the list of them, and what they measured."""

from __future__ import annotations

from collections.abc import Sequence

from tuneagent.contracts.probe import CaseResult, ProbeReport, ProbeResult
from tuneagent.experiments.probes import Probe
from tuneagent.experiments.records import Standing
from tuneagent.report.digits import gib, short
from tuneagent.report.lines import Row, counted, rows_text, wrapped
from tuneagent.report.terminal import clean

_ALIKE = 1.05
_STATISTICS = {"sum": "all of it", "p50": "median", "p99": "99th percentile", "p99.9": "99.9th percentile"}


def probes_text(probes: Sequence[Probe], width: int) -> str:
    """One line or two for each probe: what it measures, and what it does to the machine."""
    lines = []
    for one in probes:
        lines += [one.name, *wrapped(f"    {one.title}", width, "    "), *wrapped(f"    It {one.does}.", width, "    ")]
    return "\n".join(lines)


def report_text(report: ProbeReport, width: int) -> str:
    """Each probe with its cases."""
    lines = wrapped(_about(report), width)
    for one in report.probes:
        lines += ["", *_probe_lines(one, width)]
    return "\n".join(clean(line) for line in lines)


def _about(report: ProbeReport) -> str:
    host = report.host
    memory = f", {gib(host.memory_bytes)}" if host.memory_bytes else ""
    about = f"{host.name or 'this host'}: {counted(host.cpus, 'CPU')}{memory}, kernel {host.kernel or '?'}"
    return f"{about}, {report.processor or 'unknown processor'}"


def _probe_lines(one: ProbeResult, width: int) -> list[str]:
    what = f"{one.name}: {one.title}"
    if not one.cases:
        return [*wrapped(what, width), *wrapped(f"  {one.outcome}: {one.reason}", width, "  ")]
    told = f"in {one.unit}, {_STATISTICS.get(one.statistic, one.statistic)}, {one.better} is better"
    rows = [Row("", f"  {case.name}", _value(case), _remark(case, one)) for case in one.cases]
    return [*wrapped(f"{what} ({told})", width, "  "), *rows_text(rows, width)]


def _value(case: CaseResult) -> str:
    return short(case.value) if case.value is not None else case.outcome


def _remark(case: CaseResult, probe: ProbeResult) -> str:
    if case.value is None or case.noise is None:
        return case.reason
    spread = case.distribution
    unit = f" {probe.sample_unit} each" if probe.sample_unit != probe.unit else ""
    most = f", {short(spread.least)} to {short(spread.most)}{unit}" if spread is not None else ""
    return f"noise {100 * case.noise:.1f} %{most}"


def standings_text(here: ProbeReport, found: Sequence[Standing], width: int) -> str:
    """Where a host stands beside recorded ones."""
    names = sorted({name for one in found for name, _ in one.there})
    beside = f"beside {', '.join(names)}" if names else "no recorded host of its architecture"
    rows = [
        Row("", f"  {one.name}", f"{short(one.here)} {one.unit}", ", ".join(_beside(one, *each) for each in one.there))
        for one in found
    ]
    lines = [*wrapped(_about(here), width), *wrapped(beside, width), *rows_text(rows, width)]
    return "\n".join(clean(line) for line in lines)


def _beside(one: Standing, name: str, value: float) -> str:
    """How many times better or worse than a recorded host; within a twentieth they are alike."""
    ratio = one.here / value if one.better == "higher" else value / one.here
    if max(ratio, 1 / ratio) < _ALIKE:
        return f"as {name}"
    return f"{ratio:.2f}x better than {name}" if ratio > 1 else f"{1 / ratio:.2f}x worse than {name}"
