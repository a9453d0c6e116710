"""Images made from the Containerfile's own steps, without a registry and without a container engine.

FROM a Debian base is debootstrapped; RUN, COPY, ENV and ENTRYPOINT are carried out in a chroot; the result is
packed as an OCI archive that containerd imports. Base and stages are cached by the hash of what made them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Stage:
    """One FROM with what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> list[Stage]:
    """Stages of a Containerfile. Only the instructions that ours uses are known."""
    stages: list[Stage] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(name.strip() or base, base.strip()))
        elif word in ("RUN", "COPY", "ENV", "ENTRYPOINT"):
            stages[-1].steps.append((word, rest.strip()))
        else:
            raise ValueError(f"Containerfile: {word} is not known here")
    return stages


class Builder:
    """Carries stages out below `cache`."""

    def __init__(self, project: Path, cache: Path) -> None:
        self.project = project
        self.cache = cache
        self.stages = {stage.name: stage for stage in parse((project / "Containerfile").read_text())}

    def root(self, name: str) -> tuple[Path, dict[str, str], list[str]]:
        """Root folder, environment and entry point of a stage."""
        stage = self.stages.get(name)
        if stage is None:
            return self._debian(name), {}, []
        below, environment, entry = self.root(stage.base)
        digest = hashlib.sha256(below.name.encode())
        for word, rest in stage.steps:
            digest.update(f"{word} {rest}\n".encode())
            if word == "COPY":
                for path in sorted((self.project / rest.split()[0]).rglob("*")):
                    digest.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
        root = self.cache / f"image-{name}-{digest.hexdigest()[:16]}"
        for word, rest in stage.steps:
            if word == "ENV":
                key, _, value = rest.partition("=")
                environment = {**environment, key: value}
            elif word == "ENTRYPOINT":
                entry = json.loads(rest)
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run(["cp", "-a", below, part], check=True)
            for word, rest in stage.steps:
                self._carry_out(part, word, rest, environment)
            part.rename(root)
        return root, environment, entry

    def _carry_out(self, root: Path, word: str, rest: str, environment: dict[str, str]) -> None:
        if word == "COPY":
            source, target = rest.split()
            shutil.copytree(self.project / source, root / target.lstrip("/"))
        elif word == "RUN":
            path = environment.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            done = subprocess.run(
                ["chroot", root, "/bin/sh", "-c", rest], capture_output=True, text=True, check=False,
                env={"PATH": path, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"RUN {rest}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")

    def _debian(self, image: str) -> Path:
        suite = image.partition(":")[2].removesuffix("-slim") or "bookworm"
        root = self.cache / f"debian-{suite}-1"
        if root.exists():
            return root
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        subprocess.run(["mmdebstrap", "--variant=minbase", "--quiet", suite, part], check=True)
        # The host's own way to the package registry, so that `apt-get` works in the chroot as it does here.
        for name in ("etc/apt", "etc/ssl", "usr/share/ca-certificates", "usr/local/share/ca-certificates"):
            if Path("/", name).is_dir():
                shutil.copytree(Path("/", name), part / name, dirs_exist_ok=True, symlinks=True)
        shutil.copy("/etc/resolv.conf", part / "etc/resolv.conf")
        part.rename(root)
        return root

    def archive(self, stage: str, name: str, out: Path) -> None:
        """Pack a stage as an OCI archive."""
        root, environment, entry = self.root(stage)
        pack(root, name, out, {"Env": [f"{key}={value}" for key, value in environment.items()], "Entrypoint": entry})


def pack(root: Path, name: str, out: Path, config: dict[str, Any]) -> None:
    """One folder as an OCI image archive of one layer."""
    layer = out.with_suffix(".layer")
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(os.listdir(root)):
            if entry not in ("proc", "sys", "dev"):
                archive.add(root / entry, arcname=entry)
    layer_digest, size = hashlib.sha256(), 0
    with layer.open("rb") as handle:
        while piece := handle.read(1 << 20):
            layer_digest.update(piece)
            size += len(piece)
    layer_id = f"sha256:{layer_digest.hexdigest()}"
    document = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"), "os": "linux",
        "config": config, "rootfs": {"type": "layers", "diff_ids": [layer_id]},
    }).encode()  # fmt: skip
    media = "application/vnd.oci.image"
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": f"{media}.manifest.v1+json",
        "config": {"mediaType": f"{media}.config.v1+json", "digest": _digest(document), "size": len(document)},
        "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": layer_id, "size": size}],
    }).encode()  # fmt: skip
    index = json.dumps({
        "schemaVersion": 2, "mediaType": f"{media}.index.v1+json",
        "manifests": [{"mediaType": f"{media}.manifest.v1+json", "digest": _digest(manifest), "size": len(manifest),
                       "annotations": {"io.containerd.image.name": name}}],
    }).encode()  # fmt: skip
    with tarfile.open(out, "w") as archive:
        for path, data in (
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", index),
            (f"blobs/sha256/{_digest(document)[7:]}", document),
            (f"blobs/sha256/{_digest(manifest)[7:]}", manifest),
        ):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        archive.add(layer, arcname=f"blobs/sha256/{layer_id[7:]}")
    layer.unlink()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
