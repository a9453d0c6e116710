"""What experiments found, as pages for a browser."""

from __future__ import annotations

from collections.abc import Sequence

from tuneagent.contracts.goodput import Goodput
from tuneagent.contracts.measurement import MeasuredAgain
from tuneagent.contracts.playbook import PlaybookResult, Step
from tuneagent.contracts.probe import CaseResult, ProbeReport
from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.contracts.report import HostName
from tuneagent.report.digits import gib, short
from tuneagent.report.html_page import Cell, Interval, Mark, listing, page, section, table, text
from tuneagent.report.lines import counted
from tuneagent.report.values import at

_KINDS = {"better": "good", "worse": "bad", "no difference": "", "too noisy": "warn", "kept": "good", "undone": "bad",
          "skipped": "", "failed": "bad", "measured": "good", "unsupported": ""}  # fmt: skip
_METRIC_HEADS = ("metric", "verdict", "without", "with", "ratio, on a scale from half to double", "runs")


def proof_page(found: Proof) -> str:
    """A profile against the host without it."""
    title = f"{found.profile}: {'kept' if found.kept else 'not kept'}"
    about = [f"{found.why}; {counted(found.settings, 'setting')}, host {found.host}"]
    return page(title, about, [section("Metrics", _metrics(found.metrics))])


def again_page(found: MeasuredAgain) -> str:
    """A host now against a measurement of before; `without` is before, `with` is now."""
    worse = [one.name for one in found.metrics if one.verdict == "worse"]
    title = f"{found.host.name or '?'} {'is worse than' if worse else 'is not worse than'} {found.before.name or '?'}"
    about = [f"{at(found.taken)} and now; without means before, with means now", _host(found.host, None)]
    return page(title, about, [section("Metrics", _metrics(found.metrics))])


def playbook_page(found: PlaybookResult) -> str:
    """A playbook: the winners together, then each hypothesis."""
    final = found.final
    told = "no hypothesis helps on this host" if final is None else final.why
    kept = final is not None and final.kept
    parts = [section("All winners together", _metrics(final.metrics))] if final is not None else []
    parts.append(section("Hypotheses, in the order in which they were tried", _steps("Hypotheses", found.steps)))
    if found.left_out:
        parts.append(section("Without one of the winners", _steps("Left out", found.left_out)))
    if found.profile:
        parts.append(section("The profile", listing("The profile", found.profile)))
    again = f"tuneagent playbook run {found.playbook}"
    parts.append(section("How to repeat it", listing("Command", again)))
    about = [told, f"{_host(found.host, found.processor)}, {at(found.taken)}"]
    return page(f"Playbook {found.playbook}: {'kept' if kept else 'not kept'}", about, parts)


def probe_page(found: ProbeReport) -> str:
    """What probes measured, one table each."""
    heads = ("case", "outcome", "value", "noise, %", "smallest", "median", "99 %", "largest")
    parts = [
        section(
            f"{one.name} ({one.unit}, {one.better} is better)",
            f"<p>{text(one.title)}. {text(one.reason)}</p>\n"
            + (table(one.name, heads, _cases(one.cases)) if one.cases else ""),
        )
        for one in found.probes
    ]
    return page(f"Probes of {found.host.name or 'this host'}", [_host(found.host, found.processor)], parts)


def goodput_page(found: Goodput) -> str:
    """Useful work, and where the rest went."""
    share = found.productive_share
    rows: list[tuple[str, Cell]] = [
        (f"{found.unit} each second", short(found.per_second)),
        (f"{found.unit} in all", short(found.units)),
        ("seconds", short(found.wall_seconds)),
        ("of the possible", "?" if found.efficiency is None else f"{100 * found.efficiency:.1f} %"),
        ("productive time", "?" if share is None else f"{100 * share:.1f} %"),
        ("restarts", str(found.restarts)),
        (f"{found.unit} done twice", short(found.lost_units)),
        (f"{found.unit} for each joule", short(found.units_per_joule)),
        (f"{found.unit} for each dollar", short(found.units_per_dollar)),
    ]
    losses = [(one.name, f"{short(one.value)} {one.unit}", one.source) for one in found.losses]
    parts = [section("Useful work", table("Useful work", ("what", "how much"), rows))]
    if losses:
        parts.append(section("What the node saw meanwhile", table("Losses", ("what", "how much", "source"), losses)))
    return page("Goodput", [found.subject, _host(found.host, None)], parts)


def _metrics(metrics: Sequence[MetricProof]) -> str:
    rows = [_metric(one) for one in metrics]
    return table("Metrics", _METRIC_HEADS, rows) if rows else "<p>Nothing was measured.</p>\n"


def _metric(one: MetricProof) -> tuple[Cell, ...]:
    known = one.ratio is not None and one.low is not None and one.high is not None
    drawn: Cell = Interval(one.low or 0.0, one.ratio or 0.0, one.high or 0.0) if known else "?"
    name = f"{one.name} ({one.better} is better)"
    return (name, Mark(one.verdict, _KINDS[one.verdict]), short(one.baseline), short(one.tuned), drawn, str(one.runs))


def _steps(label: str, steps: Sequence[Step]) -> str:
    rows: list[tuple[Cell, ...]] = []
    for step in steps:
        rows.append((step.name, Mark(step.outcome, _KINDS[step.outcome]), "", "", step.why, ""))
        rows += [("", *_metric(one)[1:4], _metric(one)[4], _metric(one)[0]) for one in step.metrics]
    return table(
        label,
        ("hypothesis", "outcome", "without", "with", "why; ratio, on a scale from half to double", "metric"),
        rows,
    )


def _cases(cases: Sequence[CaseResult]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for one in cases:
        spread = one.distribution
        numbers = ("",) * 4 if spread is None else (
            short(spread.least), short(spread.p50), short(spread.p99), short(spread.most),
        )  # fmt: skip
        outcome = Mark(one.outcome if not one.reason else f"{one.outcome}: {one.reason}", _KINDS[one.outcome])
        noise = "" if one.noise is None else f"{100 * one.noise:.1f}"
        rows.append((one.name, outcome, short(one.value) if one.value is not None else "", noise, *numbers))
    return rows


def _host(host: HostName, processor: str | None) -> str:
    gpus = f"{len(host.gpus)} x {host.gpus[0].name}, driver {host.driver}" if host.gpus else ""
    memory = gib(host.memory_bytes) if host.memory_bytes else ""
    told = (host.name or "?", processor or "", counted(host.cpus, "CPU"), memory, gpus, f"kernel {host.kernel or '?'}")
    return ", ".join(part for part in told if part)
