"""Who the host is, as far as its files say."""

from __future__ import annotations

from tuneagent.contracts.report import HostName
from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host.machine import Host
from tuneagent.host.processes import machine


def host_name(host: Host) -> HostName:
    """Who the host is, as far as its files say."""

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
    )
