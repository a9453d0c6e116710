"""A Slurm site of one node on this machine, and Open MPI: Debian's packages, seen by their own processes alone.

Everything runs in a mount and PID namespace with layers over /usr, /etc, /var/lib and /run. What is written to the
kernel is written for real.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from debian_package import with_dependencies

PACKAGES = ("slurm-wlm", "munge", "openmpi-bin")
GPUS = 2
SLURM_CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
{more}
"""


def packages(folder: Path) -> Path:
    """The packages and what they depend on, unpacked but not installed."""
    root = with_dependencies(folder, *PACKAGES)
    # Debian's alternatives, which only an installation makes.
    for name in ("slurmctld", "slurmd", "slurmstepd"):
        (root / "usr/sbin" / name).symlink_to(f"{name}-wlm")
    (root / "usr/bin/mpirun").symlink_to("mpirun.openmpi")
    (root / "usr/bin/tuneagent").symlink_to(Path(sys.executable).parent / "tuneagent")
    return root


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Site:
    """The site. Files below `etc` are seen in its /etc; they are made before `up`."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(parents=True)
        (folder / "munge").chmod(0o755)
        key = folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for number in range(GPUS):
            # A device of its own kind is not needed: Slurm only hands out its name.
            os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self.etc = folder / "upper/etc"
        (self.etc / "slurm").mkdir(parents=True)
        (self.etc / "slurm/gres.conf").write_text(f"NodeName={self.host} Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
        (self.etc / "slurm/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        lower = [f"mount -t overlay -o lowerdir={package}/usr:/usr overlay /usr", "mount -t tmpfs tmpfs /run"]
        for top in ("etc", "var/lib"):
            upper, work = folder / "upper" / top, folder / "work" / top
            upper.mkdir(parents=True, exist_ok=True)
            work.mkdir(parents=True)
            lower.append(f"mount -t overlay -o lowerdir=/{top},upperdir={upper},workdir={work} overlay /{top}")
        script = "; ".join(
            ["set -e", "mount --make-rprivate /", *lower, f"touch {folder}/ready", "exec sleep infinity"]
        )
        self.keeper = subprocess.Popen(
            ["unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-c", script]
        )

    def sh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        children = Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children").read_text().split()
        argv = ["nsenter", "-t", children[0], "-m", "-p", "sh", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def up(self, more: str = "") -> None:
        """munged, slurmctld, slurmd, and the node idle; `more` are further lines of slurm.conf."""
        text = SLURM_CONF.format(
            host=self.host, folder=self.folder, cpus=os.cpu_count(), gpus=GPUS, ports=_free_ports(2), more=more
        )
        (self.etc / "slurm/slurm.conf").write_text(text)
        for _ in range(100):
            if (self.folder / "ready").exists():
                break
            assert self.keeper.poll() is None, "the layers could not be mounted"
            time.sleep(0.1)
        munge = self.folder / "munge"
        self.sh(
            f"munged --force --key-file {munge}/key --socket {munge}/socket --pid-file {munge}/pid"
            f" --log-file {munge}/log --seed-file {munge}/seed"
        )
        self.sh("slurmctld; slurmd")
        self.wait_for("idle")

    def state(self) -> str:
        """State of the node, and the reason that it was drained for."""
        return self.sh("sinfo -h -o '%T %E'", check=False).stdout.strip()

    def wait_for(self, state: str) -> str:
        """Wait until the node's state begins so. Its state and reason."""
        for _ in range(150):
            if self.state().startswith(state):
                return self.state()
            time.sleep(0.2)
        logs = "".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))
        raise AssertionError(f"the node is {self.state()!r}, not {state}\n{logs}")

    def down(self) -> None:
        """End everything: the namespace's processes end with its first one."""
        self.keeper.kill()
        self.keeper.wait()
