"""The CPU plan of the pass under way, for the settings that follow it: `{reserved}` and `{isolated}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneagent.facts.one_pass import Facts
from tuneagent.formats.cpulist import format_cpulist

if TYPE_CHECKING:
    from tuneagent.topology.cpu_plan import CpuPlan


def plan_of(facts: Facts) -> CpuPlan | None:
    """The plan that the profile under way asks for; None where it asks for none."""
    spec = facts.specs.get("reservedCpus")
    if spec is None:
        return None
    # Few profiles have a plan.
    from tuneagent.topology import cpu_plan

    if not isinstance(spec, cpu_plan.Spec):
        return None
    smt = getattr(facts.specs.get("smt"), "enabled", None)
    arguments = facts.specs.get("kernelArguments")
    if isinstance(arguments, dict) and arguments.get("nosmt"):
        smt = False
    return facts.once(f"cpu plan {spec} {smt}", lambda: cpu_plan.make(facts.topology, spec, smt=smt))


def expand(facts: Facts, text: str) -> str | None:
    """Text with `{reserved}` and `{isolated}` filled in; None where there is no valid plan to fill in."""
    if "{" not in text:
        return text
    plan = plan_of(facts)
    if plan is None or plan.faults:
        return None
    return text.replace("{reserved}", format_cpulist(plan.reserved)).replace(
        "{isolated}", format_cpulist(plan.isolated)
    )


def waiting(facts: Facts) -> str | None:
    """Why settings that depend on the plan are held; None where they are not."""
    plan = plan_of(facts)
    return plan.waits if plan is not None else None
