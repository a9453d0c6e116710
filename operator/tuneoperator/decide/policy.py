"""TuningPolicy/default as it is in force. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuneagent.contracts.tuning_policy import PolicySpec, TuningPolicy
from tuneagent.profile_files.document import built, parse_fields


@dataclass(frozen=True)
class Policy:
    """Limits in force, and the faults of a policy that is not valid."""

    spec: PolicySpec = field(default_factory=PolicySpec)
    faults: tuple[str, ...] = ()

    @property
    def stops(self) -> str:
        """Why nothing new may begin; empty if it may."""
        if self.faults:
            return f"Paused: TuningPolicy/default is not valid: {'; '.join(self.faults)}"
        return "" if self.spec.pause == "none" else f"Paused: TuningPolicy/default has pause: {self.spec.pause}"


def policy_of(found: TuningPolicy | None) -> Policy:
    """The policy in force. Without one, the defaults apply: one node at a time.

    While the policy is not valid, nothing begins: the intended limits are not known.
    """
    if found is None:
        return Policy()
    faults: list[str] = []
    fields = parse_fields(found.spec, PolicySpec, "spec", faults)
    if faults:
        return Policy(PolicySpec(max_unavailable=0), tuple(faults))
    return Policy(built(PolicySpec, fields))
