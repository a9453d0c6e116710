"""The winners of a playbook as a profile, with what was measured of each beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from tuneagent.contracts.playbook import Playbook, Step
from tuneagent.contracts.proof import MetricProof, Proof
from tuneagent.contracts.report import HostName
from tuneagent.contracts.tuning_profile import document_of
from tuneagent.experiments.playbook_files import tune_of
from tuneagent.formats.yaml_document import dump_yaml


def profile_text(
    book: Playbook, steps: Sequence[Step], final: Proof | None, host: HostName, processor: str | None, taken: float
) -> str:
    """A file that `tuneagent apply -f` takes."""
    day = datetime.fromtimestamp(taken, timezone.utc).date().isoformat()
    kept = [step for step in steps if step.outcome == "kept"]
    by_name = {one.name: one for one in book.spec.hypotheses}
    lines = [
        f"Found by `tuneagent playbook run {book.metadata.name}` on {day}.",
        f"Host: {host.name or '?'}, {processor or 'unknown processor'}, kernel {host.kernel or '?'}.",
    ]
    lines += [f"All of it: {line}" for line in _numbers(final.metrics if final is not None else ())]
    for step in kept:
        lines += [f"{step.name} ({by_name[step.name].source})", *(f"  {line}" for line in _numbers(step.metrics))]
    lines += [f"Not kept: {step.name} ({step.outcome}: {step.why})" for step in steps if step.outcome != "kept"]
    document = document_of(book.metadata.name, {"tune": tune_of([by_name[step.name] for step in kept])})
    comment = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return comment + dump_yaml(document)


def _numbers(metrics: Sequence[MetricProof]) -> list[str]:
    return [
        f"{one.name}: {one.verdict}, ratio {one.ratio:.3g} ({one.low:.3g} to {one.high:.3g}), {one.runs} runs"
        for one in metrics
        if one.ratio is not None and one.low is not None and one.high is not None
    ]
