"""The picture of a host with the ways between its devices: PCI by sysfs, NVLink by NVML."""

from __future__ import annotations

from tuneagent.facts.one_pass import Facts
from tuneagent.gpu.snapshot import GpuSnapshot, nvlinks_between
from tuneagent.topology.paths import TopologyWithPaths, paths


def with_paths(facts: Facts) -> TopologyWithPaths:
    """NVML is asked where there is an NVIDIA GPU; without its answer NVLinks are not known."""
    picture = facts.topology
    nvidia = any(device.vendor == "10de" for device in picture.pci_gpus or ())
    gpus = facts.gpus if nvidia else None
    nvlinks = nvlinks_between(gpus) if isinstance(gpus, GpuSnapshot) else None
    fields = {name: getattr(picture, name) for name in picture.__struct_fields__}
    return TopologyWithPaths(**fields, paths=paths(picture, nvlinks))
