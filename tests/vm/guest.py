"""A machine of three NUMA nodes in QEMU: boots from its own disk through GRUB, and runs commands when asked."""

from __future__ import annotations

import base64
import json
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CPUS = 8
# Emulated and on a shared machine: a boot that takes longer than this is taken for hung.
BOOT_LIMIT_S = 300.0
MOUNT_LIMIT_S = 300.0
CODE = "/opt/tuneagent"


@dataclass(frozen=True)
class Done:
    """What a program in the guest left."""

    code: int
    out: str
    err: str


class Vm:
    """The guest. Nodes 0 and 1 have four CPUs, an NVMe drive and a NIC each; node 2 has memory alone."""

    def __init__(self, folder: Path, disk: Path, code: Path, tables: Path, packages: Path | None = None) -> None:
        self.folder = folder
        self.code = code
        self.packages = packages
        self.tables = tables
        self.overlay = folder / "root.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", self.overlay], check=True
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None
        self.pending = b""
        self.number = 0
        self.boot_id = ""

    def argv(self) -> list[str]:
        """QEMU's command line."""
        argv = [
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "q35,hpet=off,smbus=off,vmport=off",
            # More threads hang now and then: the emulator runs stale code after the kernel has patched itself.
            "-accel", "tcg,thread=single,tb-size=512",
            # An Intel id: with AMD's there are no SMT siblings, and acpi-cpufreq refuses the default one.
            "-cpu", "max,vendor=GenuineIntel,family=6,model=85,stepping=7,la57=off",
            "-smp", f"{CPUS},sockets=2,dies=1,cores=2,threads=2", "-m", "6656M",
            "-acpitable", f"file={self.tables}",
            "-chardev", f"file,id=con,path={self.folder}/console.log,append=on", "-serial", "chardev:con",
            "-chardev", f"socket,id=agent,path={self.folder}/agent.sock,server=on,wait=off",
            "-device", "virtio-serial-pci,bus=pcie.0,addr=5,max_ports=2",
            "-device", "virtserialport,chardev=agent,name=tuneagent",
            "-drive", f"if=none,id=root,format=qcow2,cache=unsafe,file={self.overlay}",
            "-device", "nvme,drive=root,serial=root,bus=pcie.0,addr=4,bootindex=0",
            "-drive", f"if=none,id=code,format=raw,readonly=on,file={self.code}",
            "-device", "virtio-blk-pci,drive=code,bus=pcie.0,addr=6",
            "-device", "virtio-rng-pci,bus=pcie.0,addr=8",
        ]  # fmt: skip
        if self.packages is not None:
            argv += [
                "-drive", f"if=none,id=packages,format=raw,readonly=on,file={self.packages}",
                "-device", "virtio-blk-pci,drive=packages,bus=pcie.0,addr=7",
            ]  # fmt: skip
        for node, (cpus, mib) in enumerate((("0-3", 3072), ("4-7", 3072), ("", 512))):
            argv += ["-object", f"memory-backend-ram,id=m{node},size={mib}M"]
            argv += ["-numa", f"node,nodeid={node},memdev=m{node}" + (f",cpus={cpus}" if cpus else "")]
        for source, target, distance in ((0, 1, 21), (0, 2, 31), (1, 2, 31)):
            argv += ["-numa", f"dist,src={source},dst={target},val={distance}"]
        for node in (0, 1):
            argv += [
                "-device", f"pxb-pcie,id=pxb{node},bus=pcie.0,bus_nr={0x20 * (node + 1)},numa_node={node},addr={0x10 + node:#x}",
                "-device", f"pcie-root-port,id=rpa{node},bus=pxb{node},chassis={10 + node},slot=0,addr=0",
                "-device", f"pcie-root-port,id=rpb{node},bus=pxb{node},chassis={20 + node},slot=1,addr=1",
                "-drive", f"if=none,id=d{node},format=raw,file.driver=null-co,file.size=1073741824,file.read-zeroes=on",
                "-device", f"nvme,drive=d{node},serial=data{node},bus=rpa{node},max_ioqpairs=8,msix_qsize=9",
                "-netdev", f"user,id=n{node},restrict=on",
                "-device", f"vmxnet3,netdev=n{node},bus=rpb{node},mac=52:54:00:00:00:0{node + 1},romfile=",
            ]  # fmt: skip
        return argv

    def start(self) -> Vm:
        """Boot and wait for the guest's agent. A boot that hangs is tried once more; nothing else is."""
        for attempt in (1, 2):
            with (self.folder / "qemu.err").open("ab") as errors:
                self.process = subprocess.Popen(
                    self.argv(), stdin=subprocess.DEVNULL, stdout=errors, stderr=subprocess.STDOUT
                )
            try:
                self._connect()
                self._await_boot("")
                return self
            except TimeoutError:
                self.stop()
                if attempt == 2:
                    raise
        raise AssertionError

    def stop(self) -> None:
        """Switch off."""
        if self.channel is not None:
            self.channel.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _connect(self) -> None:
        path = self.folder / "agent.sock"
        for _ in range(600):
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU: {(self.folder / 'qemu.err').read_text()[-1000:]}")
            self.channel = socket.socket(socket.AF_UNIX)
            try:
                self.channel.connect(str(path))
                return
            except OSError:
                self.channel.close()
                time.sleep(0.05)
        raise TimeoutError("QEMU opened no socket")

    def _await_boot(self, before: str) -> None:
        """Ask who the guest is until it answers with another boot id than `before`."""
        end = time.monotonic() + BOOT_LIMIT_S
        while time.monotonic() < end:
            try:
                found = self._call(3.0, op="who")["boot_id"]
            except TimeoutError:
                continue
            if found != before:
                self.boot_id = found
                return
            time.sleep(1)
        console = (self.folder / "console.log").read_bytes()[-1500:].decode(errors="replace")
        raise TimeoutError(f"no boot within {BOOT_LIMIT_S:.0f} s; the console ends with\n{console}")

    def _call(self, limit_s: float, **question: Any) -> dict[str, Any]:
        assert self.channel is not None
        self.number += 1
        self.channel.sendall(json.dumps({"id": self.number, **question}).encode() + b"\n")
        end = time.monotonic() + limit_s
        while (left := end - time.monotonic()) > 0:
            while b"\n" in self.pending:
                line, _, self.pending = self.pending.partition(b"\n")
                try:
                    reply = json.loads(line)
                except ValueError:
                    continue
                if reply.get("id") == self.number:
                    return dict(reply)
            if select.select([self.channel], [], [], min(left, 0.5))[0]:
                piece = self.channel.recv(1 << 20)
                if not piece:
                    raise RuntimeError("QEMU is gone")
                self.pending += piece
        raise TimeoutError(f"the guest did not answer {question} in {limit_s} s")

    def run(self, *argv: str, stdin: str = "", timeout_s: float = 300.0) -> Done:
        """Run a program in the guest."""
        reply = self._call(timeout_s + 10, op="run", argv=argv, stdin=stdin, timeout_s=timeout_s)
        return Done(reply["code"], reply["out"], reply["err"])

    def sh(self, command: str, timeout_s: float = 300.0) -> str:
        """Output of a shell command that must succeed."""
        done = self.run("/bin/sh", "-c", command, timeout_s=timeout_s)
        assert done.code == 0, f"{command}: exit {done.code}: {done.err[-2000:]}{done.out[-1000:]}"
        return done.out.strip()

    def tuneagent(self, *arguments: str, ok: tuple[int, ...] = (0, 3, 4)) -> Done:
        """Run the program under test in the guest."""
        done = self.run("/usr/local/bin/tuneagent", *arguments)
        assert done.code in ok, (
            f"tuneagent {' '.join(arguments)}: exit {done.code}\n{done.out[-3000:]}\n{done.err[-3000:]}"
        )
        assert "Traceback" not in done.err, done.err
        return done

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        data = base64.b64encode(text.encode()).decode()
        assert self._call(60.0, op="put", path=path, data=data, mode=mode)["code"] == 0

    def await_reboot(self, order: bool = True) -> None:
        """Order a reboot through systemd, or expect one that was ordered, and wait until the next boot answers."""
        before = self.boot_id
        if order:
            self.run("/usr/bin/systemctl", "--no-block", "reboot")
        self._await_boot(before)
        self.settle()

    def settle(self) -> None:
        """Wait until systemd has finished its start and the disk with the agent is mounted.

        On a loaded machine udev may find that disk only after systemd has given it up; then it is mounted once more.
        """
        self.run("/usr/bin/systemctl", "is-system-running", "--wait", timeout_s=BOOT_LIMIT_S)
        end = time.monotonic() + MOUNT_LIMIT_S
        while self.run("/usr/bin/mountpoint", "-q", CODE).code != 0:
            if time.monotonic() > end:
                state = self.run("/usr/bin/systemctl", "status", "--no-pager", "opt-tuneagent.mount").out
                disks = self.run("/bin/sh", "-c", "ls -l /dev/disk/by-label; cat /proc/partitions").out
                raise TimeoutError(f"{CODE} is not mounted {MOUNT_LIMIT_S:.0f} s after the boot\n{state}\n{disks}")
            self.run("/bin/sh", "-c", f"udevadm settle --timeout=30; systemctl reset-failed; mount {CODE}")
            time.sleep(1)
