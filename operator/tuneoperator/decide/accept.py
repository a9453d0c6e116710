"""Whether a TuningProfile may be rolled out: checked with the very rules that its nodes apply."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from tuneagent.contracts.tuning_profile import RolloutSpec, TuningProfile, document_of
from tuneagent.errors import ProfileInvalid
from tuneagent.profile_files.document import Profile, parse
from tuneagent.profile_files.resolve import builtin
from tuneagent.tunables.registry import checked, registry

from tuneoperator.decide.assign import Candidate
from tuneoperator.decide.revision import LIMIT_BYTES, profile_document

log = logging.getLogger("tuneoperator")


@dataclass(frozen=True)
class Accepted:
    """A profile that may be rolled out, resolved, and the name of its revision."""

    profile: Profile
    rollout: RolloutSpec
    revision: str
    candidate: Candidate


class Acceptance:
    """Judges profiles, and judges them again only when one of them has changed."""

    def __init__(self) -> None:
        # Load every tunable here, before any thread starts.
        self._known = dict(registry())
        self._seen: tuple[tuple[str, str, int], ...] = ()
        self._answers: dict[str, Accepted | tuple[str, ...]] = {}

    def judge(self, profiles: list[TuningProfile]) -> Mapping[str, Accepted | tuple[str, ...]]:
        """For each profile its accepted form, or all its faults. One profile's faults do not affect the others."""
        state = tuple((one.metadata.name, one.metadata.uid, one.metadata.generation) for one in profiles)
        if state != self._seen:
            by_name = {one.metadata.name: one for one in profiles}
            self._answers = {name: self._judged(one, by_name) for name, one in by_name.items()}
            self._seen = state
        return self._answers

    def _judged(self, found: TuningProfile, all_profiles: Mapping[str, TuningProfile]) -> Accepted | tuple[str, ...]:
        def lookup(name: str) -> Profile | None:
            other = all_profiles.get(name)
            return (
                parse(document_of(other.metadata.name, other.spec), f"TuningProfile {name}")
                if other is not None
                else builtin(name)
            )

        name = found.metadata.name
        try:
            written, resolved = checked(
                document_of(found.metadata.name, found.spec), f"TuningProfile {name}", self._known, lookup
            )
            # In a cluster, a profile that does not set `drift` means repair; each revision says so explicitly.
            spec = msgspec.structs.replace(resolved.spec, drift=resolved.spec.drift or "repair")
            profile = Profile(resolved.name, spec, resolved.origins)
            size = len(json.dumps(profile_document(profile)))
        except ProfileInvalid as error:
            return tuple(error.faults)
        except Exception as error:
            log.exception("profile not judged", extra={"fields": {"profile": name}})
            return (f"it could not be judged: {type(error).__name__}: {error}",)
        if size > LIMIT_BYTES:
            return (f"spec: {size} bytes, including what it extends; the limit is {LIMIT_BYTES}",)
        candidate = Candidate(name, written.spec.node_selector, written.spec.priority, written.spec.all_nodes)
        return Accepted(profile, written.spec.rollout, f"{name}-{profile.revision}", candidate)
