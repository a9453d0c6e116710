"""What a ControllerRevision holds of a profile."""

from __future__ import annotations

import json

import msgspec
from tuneagent.contracts.tuning_profile import document_of
from tuneagent.profile_files.document import Profile

LIMIT_BYTES = 256 * 1024


def profile_document(profile: Profile) -> dict[str, object]:
    """The resolved profile as a document that `parse` accepts, with only what decides a node's settings."""
    spec: dict[str, object] = {"tune": profile.spec.tune, "accept": profile.spec.accept, "drift": profile.spec.drift}
    plain: dict[str, object] = json.loads(msgspec.json.encode(document_of(profile.name, spec)))
    return plain
