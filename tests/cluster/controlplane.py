"""A real control plane on loopback: etcd, kube-apiserver, controller-manager, scheduler.

Options and pitfalls are those of small machines: no endpoint reconciler for a loopback address, a token file,
etcd without fsync. Everything lies in one folder and ends with `stop`.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

API_PORT, ETCD_PORT, KUBELET_PORT = 16443, 12379, 20250
NODE = "node0"


class Started:
    """Processes started here, ended by pid in reverse order."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self, name: str, argv: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                # The kernel ends them with us, however we end.
                ["setpriv", "--pdeathsig", "KILL", *map(str, argv)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        self.processes.append((name, process))
        return process

    def end(self, process: subprocess.Popen[bytes], hard_after_s: float = 15) -> None:
        self.processes = [pair for pair in self.processes if pair[1] is not process]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(hard_after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> None:
        for _, process in reversed(list(self.processes)):
            self.end(process)

    def check(self) -> None:
        """Raise RuntimeError for a process that has ended by itself."""
        for name, process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""


def wait_for(
    what: str, ready: Callable[[], Any], timeout_s: float = 60, pause_s: float = 0.2, started: Started | None = None
) -> Any:
    """Poll until `ready` answers something true. Raises TimeoutError with the last error."""
    deadline = time.monotonic() + timeout_s
    last: Exception | None = None
    while time.monotonic() < deadline:
        if started is not None:
            started.check()
        try:
            if found := ready():
                return found
        except Exception as error:  # Whatever is not up yet may fail in any way.
            last = error
        time.sleep(pause_s)
    raise TimeoutError(f"{what}: not after {timeout_s:g} s ({last})")


class ControlPlane:
    """One cluster in `folder`, with the binaries of `cache`."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self.bin = cache / "bin"
        self.folder = folder
        self.pki = folder / "pki"
        self.started = Started(folder / "logs")
        self.kubeconfig = self.pki / "admin.kubeconfig"

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self.pki, check=True, capture_output=True)

    def _key(self, name: str) -> None:
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def _certificate(self, name: str, subject: str, usage: str, names: str = "") -> None:
        self._key(name)
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        extensions = f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usage}\n"
        (self.pki / f"{name}.ext").write_text(extensions + (f"subjectAltName={names}\n" if names else ""))
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip

    def _make_pki(self) -> None:
        self.pki.mkdir(parents=True, exist_ok=True)
        self._key("ca")
        self._openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=test-ca", "-days", "30", "-out", "ca.crt")
        local = "IP:127.0.0.1,IP:10.0.0.1,DNS:localhost"
        names = f"{local},DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        self._certificate("apiserver", "/CN=kube-apiserver", "serverAuth", names)
        for name, subject in (
            ("admin", "/O=system:masters/CN=admin"),
            ("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
            ("kcm", "/CN=system:kube-controller-manager"),
            ("scheduler", "/CN=system:kube-scheduler"),
            ("kubelet", f"/O=system:nodes/CN=system:node:{NODE}"),
        ):
            self._certificate(name, subject, "clientAuth")
            self.write_kubeconfig(
                name, {"client-certificate": f"{self.pki}/{name}.crt", "client-key": f"{self.pki}/{name}.key"}
            )
        self._certificate(
            "kubelet-server", f"/O=system:nodes/CN=system:node:{NODE}", "serverAuth", f"{local},DNS:{NODE}"
        )
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
        (self.pki / "tokens.csv").write_text(f'{secrets.token_hex(16)},tester,uid-tester,"system:masters"\n')

    def write_kubeconfig(self, name: str, user: dict[str, str]) -> Path:
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": f"https://127.0.0.1:{API_PORT}",
                                                    "certificate-authority": f"{self.pki}/ca.crt"}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "u"}}],
        }  # fmt: skip
        path = self.pki / f"{name}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self._make_pki()
        peer = f"http://127.0.0.1:{ETCD_PORT + 1}"
        client = f"http://127.0.0.1:{ETCD_PORT}"
        self.started.start("etcd", [
            self.bin / "etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync", "--log-level", "warn",
        ])  # fmt: skip
        wait_for(
            "etcd", lambda: urllib.request.urlopen(f"{client}/health", timeout=2).status == 200, started=self.started
        )
        p = self.pki
        self.started.start("kube-apiserver", [
            self.bin / "kube-apiserver", f"--etcd-servers={client}", "--bind-address=127.0.0.1",
            f"--secure-port={API_PORT}", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction", f"--client-ca-file={p}/ca.crt",
            f"--tls-cert-file={p}/apiserver.crt", f"--tls-private-key-file={p}/apiserver.key",
            f"--token-auth-file={p}/tokens.csv", f"--cert-dir={self.folder}/certs",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={p}/sa.pub",
            f"--service-account-signing-key-file={p}/sa.key",
            f"--kubelet-client-certificate={p}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={p}/apiserver-kubelet-client.key", f"--kubelet-certificate-authority={p}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
        ])  # fmt: skip
        context = ssl.create_default_context(cafile=str(p / "ca.crt"))
        url = f"https://127.0.0.1:{API_PORT}/readyz"
        wait_for(
            "kube-apiserver",
            lambda: urllib.request.urlopen(url, context=context, timeout=2).status == 200,
            120,
            started=self.started,
        )
        for name, binary, more in (
            ("kcm", "kube-controller-manager", [
                "--kube-api-qps=200", "--kube-api-burst=400", "--use-service-account-credentials=true",
                f"--service-account-private-key-file={p}/sa.key", f"--root-ca-file={p}/ca.crt",
                # Fake nodes send no heartbeats.
                "--node-monitor-grace-period=24h",
            ]),
            ("scheduler", "kube-scheduler", []),
        ):  # fmt: skip
            own = p / f"{name}.kubeconfig"
            self.started.start(binary, [
                self.bin / binary, f"--kubeconfig={own}", f"--authentication-kubeconfig={own}",
                f"--authorization-kubeconfig={own}", "--bind-address=127.0.0.1", "--leader-elect=false",
                f"--cert-dir={self.folder}/{name}-certs", *more,
            ])  # fmt: skip
        wait_for("default service account", lambda: self.kubectl("get", "serviceaccount", "default"))

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator and return stdout."""
        done = subprocess.run(
            [str(self.bin / "kubectl"), "--kubeconfig", str(self.kubeconfig), *argv],
            input=stdin, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *argv: str) -> Any:
        """An object as kubectl shows it in JSON."""
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def down(self) -> None:
        """End everything that was started here."""
        self.started.stop()
