"""The copy of modprobe.d that an initramfs holds: modules that it loads have the options of the day it was built."""

from __future__ import annotations

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.host_name import host_name
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.modprobe_d import FOLDERS

# Debian's and dracut's names for it; with systemd-boot it lies beside the kernel.
_PLACES = (
    "boot/initrd.img-{release}",
    "boot/initramfs-{release}.img",
    "boot/initrd-{release}",
    "boot/{machine}/{release}/initrd",
)


def stale(facts: Facts) -> str:
    """Why what modprobe.d says may not be what the next boot's initramfs has; empty if it is.

    A change that this boot has already started with is proven. In a capture no file has its age.
    """
    return facts.once("stale initramfs", lambda: _stale(facts))


def _stale(facts: Facts) -> str:
    files = facts.host.files
    release = host_name(facts.host).kernel or ""
    machine = files.read_or("etc/machine-id", "")
    image = next(filter(files.exists, (one.format(release=release, machine=machine) for one in _PLACES)), None)
    if image is None or facts.host.source == "tree":
        return ""
    if facts.host.source == "capture":
        return f"whether /{image} holds other options is not known in a capture"
    try:
        started = facts.host.now() - float(files.read("proc/uptime").split()[0])
        built = files.status(image).st_mtime
        places = [
            place for folder in FOLDERS for place in (folder, *(f"{folder}/{name}" for name in files.names(folder)))
        ]
        changed = {place: files.status(place).st_mtime for place in places if files.exists(place)}
    except (PathMissing, ReadFailed, ValueError, IndexError) as error:
        return f"the age of /{image} is not known: {error}"
    newer = [place for place, at in changed.items() if at > max(built, started)]
    return f"/{newer[0]} is newer than /{image}, which may load the module: rebuild it" if newer else ""
