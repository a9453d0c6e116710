"""The cluster tier: one real control plane for the session, built once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from controlplane import ControlPlane, wait_for

HERE = Path(__file__).parent
MANIFESTS = HERE.parents[1] / "manifests"


@pytest.fixture(scope="session")
def cache() -> Path:
    """The folder of binaries."""
    done = subprocess.run([HERE / "binaries.sh"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"the Kubernetes binaries could not be built:\n{done.stderr[-3000:]}")
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def plane(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Control plane with our CRDs, rights and admission policy; no agent and no operator."""
    made = ControlPlane(cache, tmp_path_factory.mktemp("plane"))
    try:
        made.up()
        for name in ("namespace.yaml", "crds/", "rbac.yaml", "admission.yaml", "policy.yaml"):
            wait_for(name, lambda name=name: made.kubectl("apply", "-f", str(MANIFESTS / name)))
        for crd in ("nodetunings", "tuningprofiles", "tuningpolicies"):
            wait_for(crd, lambda crd=crd: made.kubectl("get", crd) is not None)
        yield made
    finally:
        made.down()
