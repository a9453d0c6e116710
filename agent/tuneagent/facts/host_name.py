"""The host's identity and its hardware."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.report import GpuName, HostName
from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.meminfo import total_kib
from tuneagent.host.machine import Host
from tuneagent.host.processes import machine

_RELEASE = lazy_regex(r"(\d{1,4})\.(\d{1,4})")


def host_name(host: Host) -> HostName:
    """The host's identity, as far as its files tell."""

    def read(path: str) -> str | None:
        try:
            return host.files.read(path) or None
        except (PathMissing, ReadFailed):
            return None

    name, kernel, arch = machine() if host.source == "live" else (None, None, None)
    return HostName(
        name=read("proc/sys/kernel/hostname") or name,
        kernel=read("proc/sys/kernel/osrelease") or kernel,
        arch=arch or read("proc/sys/kernel/arch"),
        boot_id=read("proc/sys/kernel/random/boot_id"),
        source=host.source,
        taken=host.taken,
    )


def running_release(host: Host) -> tuple[int, int] | None:
    """Version and patch level of the running kernel, such as 6 and 8; None where they are not known."""
    match = _RELEASE.match(host.files.read_or("proc/sys/kernel/osrelease", ""))
    return (int(match[1]), int(match[2])) if match else None


def is_older(host: Host, release: tuple[int, int]) -> bool:
    """Whether the running kernel is known to be older; a tree may not say which one it has."""
    running = running_release(host)
    return running is not None and running < release


def machine_of(facts: Facts) -> HostName:
    """The host's identity, with its CPUs, memory, driver and GPUs. Asks NVML if a driver may be present."""
    memory = facts.host.observe("proc/meminfo")
    kib = total_kib(str(memory.value)) if isinstance(memory, Value) else None
    gpus = facts.gpus
    known = msgspec.structs.replace(
        host_name(facts.host),
        cpus=facts.topology.cpus_online,
        memory_bytes=kib * 1024 if kib is not None else None,
    )
    if isinstance(gpus, Unreadable):
        return msgspec.structs.replace(known, no_gpus=gpus.error)
    if isinstance(gpus, Absent):
        return msgspec.structs.replace(known, gpus=(), no_gpus=gpus.why)
    named = tuple(GpuName(one.index, one.uuid, one.name) for one in gpus.devices)
    return msgspec.structs.replace(
        known, driver=gpus.driver_version, gpus=named, no_gpus=None if named else "the driver lists no GPU"
    )
