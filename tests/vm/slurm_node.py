"""Slurm on the guest: Debian's packages on a disk of their own, with cgroup v2 as systemd gives it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from debian_package import unpacked
from guest import CPUS, Vm

LABEL = "slurm"
# With what they need that the guest's disk does not have.
PACKAGES = (
    "slurmd", "slurmctld", "slurm-client", "slurm-wlm-basic-plugins", "munge", "libmunge2", "libhwloc15", "liblua5.1-0",
    "libjson-c5", "libyaml-0-2", "libreadline8", "readline-common", "libnuma1",
)  # fmt: skip
HOST = "vmnode0"
CONF = f"""ClusterName=test
SlurmctldHost={HOST}(127.0.0.1)
SlurmUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup,task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ReturnToService=2
MessageTimeout=100
BatchStartTimeout=100
PrologEpilogTimeout=300
GresTypes=gpu
NodeName={HOST} NodeAddr=127.0.0.1 CPUs={CPUS} Sockets=2 CoresPerSocket=2 ThreadsPerCore=2 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
INSTALL = """set -e
mkdir -p /mnt/slurm /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/munge /var/lib/munge /etc/munge
modprobe virtio_blk; udevadm settle
mount -o ro LABEL=slurm /mnt/slurm
cp -a /mnt/slurm/usr/. /usr/
umount /mnt/slurm
for name in slurmctld slurmd slurmstepd; do [ -e /usr/sbin/$name ] || ln -s $name-wlm /usr/sbin/$name; done
ldconfig
head -c 1024 /dev/urandom > /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
for number in 0 1; do [ -e /dev/gpu$number ] || mknod -m 666 /dev/gpu$number c 1 3; done
"""
# Each in a unit of its own, not the packages': slurmd asks systemd for the scope of its steps.
START = """set -e
mkdir -p /run/munge
# Without any address but 127.0.0.1 the C library says that there is no IPv4.
ip address replace 192.0.2.1/32 dev lo
systemd-run -q --unit=test-munged munged --foreground --force
systemd-run -q --unit=test-slurmctld slurmctld -D
systemd-run -q --unit=test-slurmd --property=Delegate=yes slurmd -D
"""
STOP = "systemctl stop test-slurmd test-slurmctld test-munged; systemctl reset-failed; ip address delete 192.0.2.1/32 dev lo"


def slurm_disk(folder: Path) -> Path:
    """A small file system with the packages."""
    content = folder / "slurm"
    content.mkdir()
    root = unpacked(content, *PACKAGES)
    for name in ("share/doc", "share/man", "share/locale"):
        subprocess.run(["rm", "-rf", root / "usr" / name], check=True)
    # On the guest /lib is /usr/lib.
    for top in ("lib", "sbin", "bin"):
        if (root / top).is_dir():
            subprocess.run(["cp", "-a", f"{root / top}/.", f"{root / 'usr' / top}/"], check=True)
    image = folder / "slurm.img"
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-L", LABEL, "-O", "^has_journal", "-E", "root_owner=0:0", "-d", root, image, "128M"],
        check=True,
    )
    return image


def install(vm: Vm) -> None:
    """The packages and what their installation would make."""
    vm.sh(INSTALL)


def up(vm: Vm, more: str = "") -> None:
    """The daemons, and the node idle; `more` are further lines of slurm.conf."""
    vm.put("/etc/slurm/slurm.conf", CONF + more)
    vm.put("/etc/slurm/cgroup.conf", "CgroupPlugin=cgroup/v2\nConstrainCores=yes\nConstrainRAMSpace=no\n")
    vm.put("/etc/slurm/gres.conf", f"NodeName={HOST} Name=gpu File=/dev/gpu[0-1]\n")
    vm.sh(START)
    wait_for(vm, "idle")


def wait_for(vm: Vm, state: str) -> str:
    """Wait until the node's state begins so. Its state and reason."""
    end = time.monotonic() + 120
    found = ""
    while time.monotonic() < end:
        found = vm.run("sinfo", "-h", "-o", "%T %E").out.strip()
        if found.startswith(state):
            return found
        time.sleep(1)
    logs = vm.run("/bin/sh", "-c", "tail -n 30 /var/log/slurmd.log /var/log/slurmctld.log; systemctl status slurmd").out
    raise AssertionError(f"the node is {found!r}, not {state}\n{logs}")
