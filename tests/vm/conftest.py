"""The VM tier: one machine for the session; its disk is made once, its reboots are real."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest import CPUS, Vm
from guest_image import acpi_tables, code_disk, default_cache, disk
from slurm_node import slurm_disk

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """The booted machine, its NICs up."""
    folder = tmp_path_factory.mktemp("vm")
    if not list((PROJECT / "wheelhouse/agent").glob("msgspec*")):
        subprocess.run(["make", "-s", "wheelhouse"], cwd=PROJECT, check=True)
    code = code_disk(PROJECT, folder)
    made = Vm(folder, disk(default_cache()), code, acpi_tables(folder, CPUS), slurm_disk(folder))
    try:
        made.start()
        made.settle()
        yield made
    finally:
        made.stop()
