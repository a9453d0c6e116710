"""A 64-bit Arm machine with 64 KiB pages and two NUMA nodes, emulated: as Grace and GB200 run.

The kernel is Debian's source, built here once with a cross-compiler; its root is Debian's Python for arm64 in memory.
Nothing is installed: the tools are seen by their own processes alone.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from debian_package import with_dependencies
from guest_image import default_cache

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
TOOLS = ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm", "linux-source-6.1", "flex", "bison", "bc")
GUEST = ("python3.11", "busybox-static")
MIRROR = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"
BUILD = """set -e
mount --make-rprivate /
mount -t overlay -o lowerdir={tools}/usr:/usr overlay /usr
cd {folder}
tar xf /usr/src/linux-source-6.1.tar.xz
cd linux-source-6.1
export ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
make -s tinyconfig
./scripts/kconfig/merge_config.sh -m .config {config}
make -s olddefconfig
make -s -j"$(nproc)" Image
cp arch/arm64/boot/Image {folder}/Image
"""
WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def _run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))[:300]}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def _packages_for_arm64(folder: Path) -> Path:
    """The guest's packages, from Debian's index for arm64, which this machine's own apt never sees."""
    (folder / "state/lists/partial").mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(MIRROR)
    options = [
        "APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State={folder}/state", f"Dir::State::status={folder}/status",
        f"Dir::Cache={folder}", f"Dir::Etc::sourcelist={folder}/sources.list", "Dir::Etc::sourceparts=-",
    ]  # fmt: skip
    _run("apt-get", *(word for option in options for word in ("-o", option)), "-qq", "update")
    return with_dependencies(folder, *GUEST, options=options)


def machine() -> Path:
    """Folder with `tools`, the kernel's `Image` and the guest's `root`, made once for each state of these files."""
    config = HERE / "kernel.config"
    state = hashlib.sha256(Path(__file__).read_bytes() + config.read_bytes()).hexdigest()[:16]
    folder = default_cache() / f"arm64-{state}"
    if folder.exists():
        return folder
    part = folder.with_suffix(f".{os.getpid()}")
    part.mkdir(parents=True)
    tools = with_dependencies(part / "tools", *TOOLS)
    _run("unshare", "-m", "sh", "-c", BUILD.format(tools=tools, folder=part, config=config))
    shutil.rmtree(part / "linux-source-6.1")
    _packages_for_arm64(part / "guest")
    wheels = [word for name in WHEELS for word in ("--platform", name)]
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", "3.11",
        "--implementation", "cp", "--require-hashes", "--no-deps", *wheels, "--dest", part / "wheels",
        "--requirement", PROJECT / "requirements/agent.lock",
    )  # fmt: skip
    part.rename(folder)
    return folder


def initramfs(made: Path, work: Path, script: str) -> Path:
    """The guest's root with our code, and `script` as what it runs before it powers off."""
    root = work / "root"
    _run("cp", "-a", made / "guest/root", root)
    for name in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var"):
        shutil.rmtree(root / name, ignore_errors=True)
    modules = root / "opt/modules"
    modules.mkdir(parents=True)
    for wheel in (made / "wheels").glob("*.whl"):
        shutil.unpack_archive(wheel, modules, "zip")
    shutil.copytree(PROJECT / "agent/tuneagent", modules / "tuneagent", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("proc", "sys", "dev", "tmp", "run", "var/lib", "etc/sysctl.d", "etc/tmpfiles.d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    init = root / "init"
    init.write_text(INIT.format(script=script))
    init.chmod(0o755)
    archive = work / "initramfs.gz"
    with gzip.open(archive, "wb", compresslevel=1) as out:
        out.write(_cpio(root))
    return archive


INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
export PATH=/bin:/usr/bin PYTHONPATH=/opt/modules PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
stty -onlcr
say() {{ name=$1; shift; "$@" > /tmp/out 2> /tmp/err; code=$?; echo "<<<$name $code"; cat /tmp/out; echo ">>>"; cat /tmp/err; }}
tuneagent() {{ python3.11 -m tuneagent "$@"; }}
{script}
poweroff -f
"""


def _cpio(root: Path) -> bytes:
    """Every file below `root` in the kernel's initramfs format (newc)."""
    parts = []
    for number, path in enumerate([*sorted(root.rglob("*")), None], 1):
        name = str(path.relative_to(root)) if path is not None else "TRAILER!!!"
        mode, data = 0, b""
        if path is not None:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                data = path.read_bytes()
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
    return b"".join(parts)


def boot(made: Path, archive: Path, limit_s: float = 1200) -> str:
    """Run the machine until it powers off. What its console showed."""
    qemu = [
        "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "4", "-m", "8192", "-nographic", "-no-reboot",
        "-object", "memory-backend-ram,id=m0,size=4096M", "-object", "memory-backend-ram,id=m1,size=4096M",
        "-numa", "node,nodeid=0,cpus=0-1,memdev=m0", "-numa", "node,nodeid=1,cpus=2-3,memdev=m1",
        "-net", "none", "-kernel", str(made / "Image"), "-initrd", str(archive), "-append", "console=ttyAMA0 quiet rdinit=/init",
    ]  # fmt: skip
    tools = made / "tools/root/usr"
    script = f'mount --make-rprivate / && mount -t overlay -o lowerdir={tools}:/usr overlay /usr && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "-", *qemu],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode(errors="replace").replace("\r", "")
