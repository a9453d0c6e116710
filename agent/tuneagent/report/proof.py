"""What an experiment found, in words."""

from __future__ import annotations

from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.experiments.trial import Progress, more_runs
from tuneagent.report.lines import counted
from tuneagent.report.terminal import clean

_DIGITS = 4


def proof_text(proof: Proof) -> str:
    """The verdict first, then each metric."""
    head = f"KEPT: {proof.why}." if proof.kept else f"NOT KEPT: {proof.why}."
    lines = [head, f"profile {proof.profile}, {counted(proof.settings, 'setting')}, host {proof.host}"]
    for one in proof.metrics:
        lines += ["", *_metric_lines(one)]
    if proof.kept:
        lines += ["", "The profile is applied, also for the next boot. `tuneagent undo` goes back."]
    elif proof.metrics:
        lines += ["", "The host is as it was."]
    return "\n".join(clean(line) for line in lines)


def _metric_lines(one: MetricProof) -> list[str]:
    lines = [f"{one.name} ({one.better} is better): {one.verdict}"]
    if one.baseline is None or one.tuned is None:
        return lines
    without, tuned, ratio, low, high = map(_short, (one.baseline, one.tuned, one.ratio, one.low, one.high))
    lines.append(f"  without {without}, with {tuned} (medians of {one.runs // 2} runs each)")
    lines.append(f"  ratio {ratio}, between {low} and {high}")
    if one.noise is not None:
        lines.append(f"  half of all pairs of runs of the same kind differ by more than {_short(100 * one.noise)} %")
    if one.more_runs is not None:
        lines.append(f"  {more_runs(one.more_runs)}")
    return lines


def _short(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.0f}" if 10 ** (_DIGITS - 1) <= abs(value) < 1e15 else f"{value:.{_DIGITS}g}"


def progress_line(progress: Progress) -> str:
    """One line for the terminal while a trial runs."""
    done = f"block {progress.blocks}"
    if progress.judged is None:
        return done
    told = progress.judged
    return clean(f"{done}: {progress.name} {told.ratio:.3g} (between {told.low:.3g} and {told.high:.3g})")
