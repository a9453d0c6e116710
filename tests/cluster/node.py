"""A real node: containerd and kubelet of this machine, in a mount namespace of their own, joined to the control plane.

On small virtual machines: cgroup v1 or v2, no systemd, no CAP_SYS_RESOURCE. All that the kubelet makes lies under
one parent cgroup and in one folder, and is taken away again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from controlplane import KUBELET_PORT, NODE, ControlPlane, wait_for
from image import pack

CGROUP = "tuneagent-test"


class RealNode:
    """One node, named `node0`."""

    def __init__(self, plane: ControlPlane, cache: Path, folder: Path) -> None:
        self.plane = plane
        self.bin = cache / "bin"
        self.cni = cache / "cni"
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self.namespace_pid = 0

    def _inside(self, *argv: str | Path) -> list[str]:
        return ["nsenter", "-t", str(self.namespace_pid), "-m", *map(str, argv)]

    def ctr(self, *argv: str, check: bool = True) -> str:
        """Run ctr on our containerd."""
        command = self._inside(self.bin / "ctr", "-a", self.socket, "-n", "k8s.io", *argv)
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=300).stdout

    def up(self) -> None:
        """Namespace, cgroups, containerd, pause image, kubelet, Ready."""
        for name in ("containerd", "kubelet", "pods-log", "cni", "cni-data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        started = self.plane.started
        keeper = started.start("mount-namespace", ["unshare", "-m", "--propagation", "shared", "sleep", "infinity"])
        self.namespace_pid = keeper.pid
        time.sleep(0.5)
        self._make_cgroups()
        self._write_configuration()
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        started.start(
            "containerd", self._inside(self.bin / "containerd", "--config", self.folder / "containerd.toml"), path
        )
        wait_for("containerd", lambda: self.ctr("version"), started=started)
        self._import_pause()
        p = self.plane.pki
        started.start(
            "kubelet",
            self._inside(
                self.bin / "kubelet", f"--config={self.folder}/kubelet.yaml", f"--kubeconfig={p}/kubelet.kubeconfig",
                f"--root-dir={self.folder}/kubelet", f"--cert-dir={self.folder}/kubelet-certs",
                f"--hostname-override={NODE}", "--cloud-provider=external", "--node-labels=tuneagent.dev/real=true",
            ),
            path,
        )  # fmt: skip
        wait_for(
            "kubelet", lambda: urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=2), 90, started=started
        )
        wait_for("node object", lambda: self.plane.kubectl("get", "node", NODE))
        # With an external cloud provider the addresses and this taint are ours to settle.
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}]
        body = json.dumps({"status": {"addresses": addresses}})
        self.plane.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", body)
        self.plane.kubectl("taint", "node", NODE, "node.cloudprovider.kubernetes.io/uninitialized-", check=False)
        self.plane.kubectl("wait", "node", NODE, "--for=condition=Ready", "--timeout=90s")

    def _hierarchies(self) -> list[Path]:
        top = Path("/sys/fs/cgroup")
        if (top / "cgroup.controllers").exists():
            return [top]
        return [path for path in top.iterdir() if path.is_dir() and path.name != "unified"]

    def _make_cgroups(self) -> None:
        for hierarchy in self._hierarchies():
            own = hierarchy / CGROUP
            own.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (own / name).exists() and (hierarchy / name).exists():
                    (own / name).write_text((hierarchy / name).read_text())

    def _import_pause(self) -> None:
        root = self.folder / "pause"
        root.mkdir(exist_ok=True)
        source = root / "pause.c"
        source.write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
        subprocess.run(["gcc", "-static", "-O1", "-o", root / "pause", source], check=True)
        source.unlink()
        self.import_folder(root, "localhost/pause:1", ["/pause"])

    def import_folder(self, root: Path, name: str, entry: list[str]) -> None:
        """Pack a folder and import it."""
        archive = self.folder / "import.tar"
        pack(root, name, archive, {"Entrypoint": entry})
        self.import_archive(archive)

    def import_archive(self, archive: Path) -> None:
        """Import an OCI archive and delete it."""
        self.ctr("images", "import", str(archive))
        archive.unlink()

    def _write_configuration(self) -> None:
        f, p = self.folder, self.plane.pki
        ipam = {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "dataDir": str(f / "cni-data")}
        network = {"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}]}
        (f / "cni" / "10-test.conflist").write_text(json.dumps(network))
        runc = shutil.which("runc") or "/usr/sbin/runc"
        (f / "containerd.toml").write_text(f"""version = 3
root = "{f}/containerd"
state = "{f}/containerd-run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{self.socket}"
[ttrpc]
  address = "{self.socket}.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
  path = "{f}/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{self.cni}"]
    conf_dir = "{f}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
""")
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": False,
            "failSwapOn": False, "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{CGROUP}",
            "containerRuntimeEndpoint": f"unix://{self.socket}", "address": "127.0.0.1", "port": KUBELET_PORT,
            "readOnlyPort": 0, "healthzBindAddress": "127.0.0.1", "healthzPort": 10248,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": f"{p}/ca.crt"}},
            "authorization": {"mode": "Webhook"}, "tlsCertFile": f"{p}/kubelet-server.crt",
            "tlsPrivateKeyFile": f"{p}/kubelet-server.key", "resolvConf": "", "podLogsDir": str(f / "pods-log"),
            "volumePluginDir": str(f / "volumeplugins"), "enforceNodeAllocatable": ["pods"],
            "imageGCHighThresholdPercent": 99, "imageGCLowThresholdPercent": 98,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "nodeStatusUpdateFrequency": "5s", "protectKernelDefaults": False, "makeIPTablesUtilChains": False,
        }  # fmt: skip
        (f / "kubelet.yaml").write_text(json.dumps(kubelet))

    def down(self) -> None:
        """End pods, shims, containerd and kubelet, drop mounts and cgroups."""
        if not self.namespace_pid:
            return
        started = self.plane.started
        for name, process in list(started.processes):
            if name == "kubelet":
                started.end(process)
        for task in self.ctr("tasks", "ls", "-q", check=False).split():
            self.ctr("tasks", "kill", "-s", "SIGKILL", "-a", task, check=False)
        time.sleep(0.5)
        for task in self.ctr("tasks", "ls", "-q", check=False).split():
            self.ctr("tasks", "rm", "-f", task, check=False)
        for container in self.ctr("containers", "ls", "-q", check=False).split():
            self.ctr("containers", "rm", container, check=False)
        for name, process in list(started.processes):
            if name == "containerd":
                started.end(process)
        self._end_shims()
        self._unmount()
        for _ in range(3):
            for hierarchy in self._hierarchies():
                if (hierarchy / CGROUP).is_dir():
                    subprocess.run(["find", hierarchy / CGROUP, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                                   check=False, capture_output=True)  # fmt: skip
            time.sleep(0.2)
        for name, process in list(started.processes):
            if name == "mount-namespace":
                started.end(process)

    def _end_shims(self) -> None:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    line = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                # Ours carry our own socket on their command line.
                if "containerd-shim-runc-v2" in line and str(self.socket) in line:
                    os.kill(int(entry), signal.SIGKILL)

    def _unmount(self) -> None:
        mounts = subprocess.run(
            self._inside("cat", "/proc/self/mountinfo"), capture_output=True, text=True, check=False
        )
        points = [line.split()[4] for line in mounts.stdout.splitlines()]
        for point in sorted((one for one in points if one.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(self._inside("umount", "-l", point), check=False, capture_output=True)
