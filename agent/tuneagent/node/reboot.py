"""The one way in which tuneagent reboots a host: a granted plan, as a transient unit of the host's systemd."""

from __future__ import annotations

from tuneagent.errors import CommandFailed, WriteFailed
from tuneagent.host.machine import Host

DELAY_S = 10


def reboot_host(host: Host, digest: str) -> None:
    """Order a reboot that outlives this process. Ordered again for the same plan it is the same unit.

    Raises WriteFailed.
    """
    name = f"tuneagent-{digest.rpartition(':')[2][:16]}-reboot"
    argv = ["systemd-run", "--collect", f"--unit={name}", f"--on-active={DELAY_S}s", "systemctl", "reboot"]
    try:
        done = host.exec.run(argv)
    except CommandFailed as error:
        raise WriteFailed(f"reboot: {error}") from None
    already = "already" in done.stderr or "exists" in done.stderr
    if done.code != 0 and not already:
        raise WriteFailed(f"reboot: systemd-run: exit {done.code}: {done.stderr.strip()[:200]}")
