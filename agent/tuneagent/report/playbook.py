"""Playbooks in words: the list, one of them, and what came of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tuneagent.contracts.playbook import Playbook, PlaybookResult, Step
from tuneagent.contracts.proof import MetricProof
from tuneagent.experiments.playbook_run import ALL
from tuneagent.formats.yaml_document import dump_yaml
from tuneagent.report.digits import short
from tuneagent.report.lines import Row, rows_text, wrapped
from tuneagent.report.terminal import clean


def playbooks_text(books: Sequence[Playbook], width: int) -> str:
    """One line for each."""
    return "\n".join(rows_text([Row("", one.metadata.name, one.spec.title) for one in books], width))


def playbook_text(book: Playbook, width: int) -> str:
    """All of it, for someone who decides whether to run it."""
    spec = book.spec
    lines = [f"{book.metadata.name}: {spec.title}", ""]
    for name, text in (("Workload", spec.workload), ("Hardware", spec.applies_to), ("Why", spec.why)):
        lines += wrapped(f"{name}: {text}", width, "  ")
    measured = [*spec.measure.probes, *([f"the command {spec.measure.command}"] if spec.measure.command else [])]
    lines += wrapped(f"Measured by: {'; '.join(measured)}", width, "  ")
    lines += wrapped(
        f"Rule: {spec.limit_seconds} s for each; a difference below {spec.margin_percent:g} % does not count",
        width,
        "  ",
    )
    for number, one in enumerate(spec.hypotheses, 1):
        lines += ["", f"{number}. {one.name}"]
        lines += [f"   {line}" for line in dump_yaml(one.tune).rstrip().splitlines()]
        lines += wrapped(f"   Expected: {one.expects}", width, "   ")
        lines += wrapped(f"   Source: {one.source}", width, "   ")
        lines += wrapped(f"   Disputed: {one.dispute}", width, "   ") if one.dispute else []
    return "\n".join(clean(line) for line in lines)


def result_text(found: PlaybookResult, width: int) -> str:
    """The verdict on all winners first, then each hypothesis."""
    final = found.final
    lost = next((step for step in found.left_out if step.name == ALL), None)
    if lost is not None:
        head = f"NOT KEPT, all winners together: {lost.why}"
    elif final is None:
        failed = sum(step.outcome == "failed" for step in found.steps)
        more = f"; {failed} could not be tried" if failed else ""
        head = f"NOT KEPT: no hypothesis helps on this host{more}."
    else:
        head = f"{'KEPT' if final.kept else 'NOT KEPT'}, all winners together: {final.why}."
    lines = [*wrapped(head, width), f"playbook {found.playbook}, host {found.host.name or '?'}"]
    for one in final.metrics if final is not None else ():
        lines += wrapped(f"  {_numbers(one)}", width, "  ")
    for title, steps in (("Hypotheses", found.steps), ("Without one of the winners", found.left_out)):
        lines += ["", f"{title}:"] if steps else []
        for step in steps:
            lines += _step_lines(step, width)
    if final is not None and final.kept:
        lines += ["", "The profile is applied, also for the next boot. `tuneagent undo` goes back."]
    else:
        lines += ["", "The host is as it was."]
    return "\n".join(clean(line) for line in lines)


def _step_lines(step: Step, width: int) -> list[str]:
    lines = wrapped(f"  {step.outcome:<8}{step.name}: {step.why}", width, " " * 10)
    for one in step.metrics:
        lines += wrapped(f"{' ' * 10}{_numbers(one)}", width, " " * 10)
    return lines


def _numbers(one: MetricProof) -> str:
    return (
        f"{one.name}: {one.verdict}, {short(one.baseline)} without, {short(one.tuned)} with, "
        f"ratio {short(one.ratio)} ({short(one.low)} to {short(one.high)})"
    )
