"""What a ControllerRevision holds of a profile."""

from __future__ import annotations

import json

import msgspec
from tuneagent.contracts.tuning_profile import API_VERSION, KIND
from tuneagent.profile_files.document import Profile

LIMIT_BYTES = 256 * 1024


def profile_document(profile: Profile) -> dict[str, object]:
    """The resolved profile as a document that `parse` takes: what decides a node's settings, no more."""
    spec = {"tune": profile.spec.tune, "accept": profile.spec.accept, "drift": profile.spec.drift}
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": profile.name}, "spec": spec}
    plain: dict[str, object] = json.loads(msgspec.json.encode(document))
    return plain
