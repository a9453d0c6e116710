"""Where drop-ins lie: which folders survive a reboot."""

from __future__ import annotations

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.host.machine import Host

# A root of type rootfs is what the boot loader put into memory; a real one hides it.
_VOLATILE = ("tmpfs", "ramfs", "rootfs", "devtmpfs")


# Signs that a program is there which reads a folder: then it is made where it is missing.
_READERS = {
    "etc/sysctl.d": ("usr/lib/systemd/systemd-sysctl", "lib/systemd/systemd-sysctl"),
    "etc/tmpfiles.d": ("usr/bin/systemd-tmpfiles", "bin/systemd-tmpfiles"),
    "etc/default/grub.d": ("usr/sbin/update-grub",),
}


def folder_impossible(host: Host, folder: str) -> str | None:
    """Why a file in `folder` would not survive a reboot; None if it would.

    On some node images /etc is a tmpfs, or a read-only image with a writable layer that a reboot drops.
    """
    if not host.files.is_dir(folder):
        readers = _READERS.get(folder, ())
        if not any(host.files.exists(reader) for reader in readers):
            reader = f" and no {readers[0].rpartition('/')[2]}" if readers else ""
            return f"no /{folder}{reader} on this host: no file can set it at boot"
    mount = _mount_of(host, "/" + folder)
    if mount is None:
        return None
    point, kind, options = mount
    if kind in _VOLATILE:
        return f"/{folder} is on a {kind} mounted at {point}, lost at reboot"
    upper = next((one.partition("=")[2] for one in options.split(",") if one.startswith("upperdir=")), "")
    below = _mount_of(host, upper) if kind == "overlay" and upper else None
    if below is not None and below[1] in _VOLATILE:
        return f"/{folder} is on an overlay mounted at {point} whose upper folder is on a {below[1]}, lost at reboot"
    if below == mount:
        # The image started with it and then hid it below itself, as live images and containers do.
        return f"/{folder} is on an overlay mounted at {point} whose upper folder cannot be seen, may be lost at reboot"
    if "ro" in options.split(","):
        return f"/{folder} is on a file system mounted read-only at {point}"
    return None


def _mount_of(host: Host, path: str) -> tuple[str, str, str] | None:
    table = ""
    # /proc/1 is the host's own view also from inside a pod.
    for source in (f"proc/{host.host_pid}/mounts", "proc/self/mounts", "proc/mounts"):
        try:
            table = host.files.read(source)
            break
        except (PathMissing, ReadFailed):
            continue
    best: tuple[str, str, str] | None = None
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and (best is None or len(point) >= len(best[0])):
            best = (point, fields[2], fields[3])
    return best
