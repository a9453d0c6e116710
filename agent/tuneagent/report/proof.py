"""What an experiment found, in words."""

from __future__ import annotations

from tuneagent.contracts.measurement import MeasuredAgain
from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.experiments.trial import Progress, more_runs
from tuneagent.report.digits import short
from tuneagent.report.lines import counted
from tuneagent.report.terminal import clean
from tuneagent.report.values import at


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


def again_text(found: MeasuredAgain) -> str:
    """What is worse first, then each metric."""
    worse = [one.name for one in found.metrics if one.verdict == "worse"]
    better = [one.name for one in found.metrics if one.verdict == "better"]
    head = (
        f"WORSE: {', '.join(worse)}." if worse else f"BETTER: {', '.join(better)}." if better else "Nothing is worse."
    )
    lines = [head, f"host {found.host.name or '?'}, against {found.before.name or '?'} of {at(found.taken)}"]
    for one in found.metrics:
        lines += ["", *_metric_lines(one, ("before", "now"))]
    if found.missing:
        lines += ["", f"Not in both: {', '.join(found.missing)}"]
    return "\n".join(clean(line) for line in lines)


def _metric_lines(one: MetricProof, arms: tuple[str, str] = ("without", "with")) -> list[str]:
    lines = [f"{one.name} ({one.better} is better): {one.verdict}"]
    if one.baseline is None or one.tuned is None:
        return lines
    without, tuned, ratio, low, high = map(short, (one.baseline, one.tuned, one.ratio, one.low, one.high))
    lines.append(f"  {arms[0]} {without}, {arms[1]} {tuned} (medians of {one.runs // 2} runs each)")
    lines.append(f"  ratio {ratio}, between {low} and {high}")
    if one.noise is not None:
        lines.append(f"  half of all pairs of runs of the same kind differ by more than {short(100 * one.noise)} %")
    if one.more_runs is not None:
        lines.append(f"  {more_runs(one.more_runs)}")
    return lines


def progress_line(progress: Progress) -> str:
    """One line for the terminal while a trial runs."""
    done = f"block {progress.blocks}"
    if progress.judged is None:
        return done
    told = progress.judged
    return clean(f"{done}: {progress.name} {told.ratio:.3g} (between {told.low:.3g} and {told.high:.3g})")
