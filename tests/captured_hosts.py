"""Captured real machines in fixtures/hosts, as hosts to audit."""

from __future__ import annotations

import tarfile
from pathlib import Path

from support import FIXTURES
from tuneagent.commands.settings import load_profile
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.host.machine import tree_host
from tuneagent.host.state_folder import StateFolder
from tuneagent.share.capture import unpack

HOSTS = FIXTURES / "hosts"


def tuner_of(place: Path, folder: Path, profile: str) -> HostTuner:
    """The machine of a folder of HOSTS or of a capture, unpacked into `folder`, with its own or a built-in profile."""
    capture = place / "capture.tar.gz" if place.is_dir() else place
    if capture.is_file():
        host = unpack(str(capture), str(folder))
    else:
        with tarfile.open(place / "tree.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        host = tree_host(str(folder / "root"))
    path = (place if place.is_dir() else place.parent) / profile
    found = load_profile(str(path), None) if path.is_file() else load_profile(None, profile)
    return HostTuner(host, StateFolder(host.files, STATE_FOLDER), found)
