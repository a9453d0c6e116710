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
    heads = (("WORSE", "worse"), ("BETTER", "better"), ("TOO NOISY TO TELL", "too noisy"))
    named = ((word, [one.name for one in found.metrics if one.verdict == verdict]) for word, verdict in heads)
    head = next((f"{word}: {', '.join(names)}." for word, names in named if names), "NO DIFFERENCE.")
    lines = [head, f"host {found.host.name or '?'}, against {found.before.name or '?'} of {at(found.taken)}"]
    if found.host.cpus != found.before.cpus:
        lines.append(f"not the same kind of machine: {found.host.cpus} CPUs now, {found.before.cpus} then")
    for one in found.metrics:
        lines += ["", *_metric_lines(one, ("before", "now"), is_apart=True)]
    if found.missing:
        lines += ["", f"Not in both: {', '.join(found.missing)}"]
    return "\n".join(clean(line) for line in lines)


def _metric_lines(
    one: MetricProof, arms: tuple[str, str] = ("without", "with"), *, is_apart: bool = False
) -> list[str]:
    lines = [f"{one.name} ({one.better} is better): {one.verdict}"]
    if one.baseline is None or one.tuned is None:
        return lines
    without, tuned, ratio, low, high = map(short, (one.baseline, one.tuned, one.ratio, one.low, one.high))
    runs = f"{one.runs} runs in all" if is_apart else f"{one.runs // 2} runs each"
    lines.append(f"  {arms[0]} {without}, {arms[1]} {tuned} (medians of {runs})")
    lines.append(f"  ratio of the means {ratio}, between {low} and {high}")
    if one.noise is not None:
        lines.append(f"  two runs of the same kind typically differ by {short(100 * one.noise)} %")
    if one.more_runs is not None and not is_apart:
        lines.append(f"  {more_runs(one.more_runs)}")
    return lines


def progress_line(progress: Progress) -> str:
    """One line for the terminal while a trial runs."""
    done = f"block {progress.blocks}"
    if progress.judged is None:
        return done
    told = progress.judged
    return clean(f"{done}: {progress.name} {told.ratio:.3g} (between {told.low:.3g} and {told.high:.3g})")
