"""The guest's disk: Debian with systemd, udev, GRUB in the boot sector, and a kernel that needs no initramfs.

Made once for each state of this file and of Debian's kernel package, in a cache outside the tree. Needs root
for mmdebstrap and chroot; nothing is mounted and no loop device is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
DISK_MIB = 1536
DISK_SIGNATURE = 0x7A3C51E2
PARTITION_SECTOR = 2048
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,util-linux,mount,python3,grub-common,grub2-common,"
    "e2fsprogs,irqbalance,ethtool"
)
# Faster under emulation; what the tests change is not among them.
BASE_LINE = (
    "console=ttyS0 rw quiet tsc=reliable clocksource=tsc no_timer_check lpj=4000000 mitigations=off "
    "random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests pci=noaer selinux=0 apparmor=0 audit=0 "
    "nmi_watchdog=0 nowatchdog raid=noautodetect"
)
MASKED = [
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "systemd-pstore.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-firstboot.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "ldconfig.service",
    "grub-common.service",
    "grub-initrd-fallback.service",
    "systemd-fsck-root.service",
    "systemd-machine-id-commit.service",
]
GUEST_SERVICE = """\
[Unit]
Description=test harness agent on virtio-serial
DefaultDependencies=no
After=local-fs.target systemd-udevd.service
[Service]
ExecStartPre=/sbin/modprobe -a virtio_pci virtio_console
ExecStart=/usr/bin/python3 -S -E /usr/local/sbin/guest_agent.py
Restart=always
[Install]
WantedBy=multi-user.target
"""


def _run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))[:300]}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def kernel_package() -> str:
    """The package that Debian's cloud kernel stands for now."""
    listed = _run("apt-cache", "depends", "linux-image-cloud-amd64")
    match = re.search(r"Depends: (linux-image-6\S+)", listed)
    if not match:
        raise RuntimeError("apt-cache knows no linux-image-cloud-amd64: apt-get update")
    return match.group(1)


def disk(cache: Path) -> Path:
    """The disk image, made if it is not there."""
    package = kernel_package()
    key = hashlib.sha256(package.encode())
    for name in ("guest_image.py", "guest_agent.py"):
        key.update((HERE / name).read_bytes())
    folder = cache / f"vm-{key.hexdigest()[:16]}"
    if (folder / "disk.img").exists():
        return folder / "disk.img"
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    root.mkdir(parents=True)
    _run(
        "mmdebstrap", "--variant=minbase", "--quiet", f"--include={PACKAGES}", "--aptopt=Apt::Install-Recommends false",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")), "bookworm", root,
    )  # fmt: skip
    release = _kernel(folder, root, package)
    _configure(root, release)
    made = _assemble(folder, root)
    shutil.rmtree(root)
    return made


def _kernel(folder: Path, root: Path, package: str) -> str:
    release = package.removeprefix("linux-image-")
    _run("apt-get", "download", "-qq", package, cwd=folder)
    unpacked = folder / "kernel"
    _run("dpkg", "-x", next(folder.glob("*.deb")), unpacked)
    (root / "lib/modules").mkdir(parents=True, exist_ok=True)
    shutil.move(unpacked / "lib/modules" / release, root / "lib/modules" / release)
    for name in (f"vmlinuz-{release}", f"config-{release}"):
        shutil.copy(unpacked / "boot" / name, root / "boot" / name)
    shutil.rmtree(unpacked)
    next(folder.glob("*.deb")).unlink()
    _run("chroot", root, "/sbin/depmod", release)
    return release


def _put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _configure(root: Path, release: str) -> None:
    shutil.copy(HERE / "guest_agent.py", root / "usr/local/sbin/guest_agent.py")
    units = root / "etc/systemd/system"
    _put(root, "etc/systemd/system/guest-agent.service", GUEST_SERVICE)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/guest-agent.service").symlink_to("../guest-agent.service")
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    _put(root, "etc/modules-load.d/vm.conf", "acpi-cpufreq\nvmxnet3\n")
    _put(root, "etc/fstab",
         "LABEL=vmroot / ext4 defaults 0 0\n"
         "LABEL=tuneagent /opt/tuneagent ext4 ro,nofail,x-systemd.device-timeout=600 0 0\n")  # fmt: skip
    _put(root, "etc/hostname", "vmnode0\n")
    _put(root, "etc/hosts", "127.0.0.1 localhost vmnode0\n")
    _put(root, "etc/machine-id", "8f2d5a0e6d1b4c0f9a3e7c5b2d4f6a81\n")
    (root / "opt/tuneagent").mkdir(parents=True)
    _put(root, "usr/local/bin/tuneagent",
         '#!/bin/sh\nPYTHONPATH=/opt/tuneagent PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m tuneagent "$@"\n')  # fmt: skip
    (root / "usr/local/bin/tuneagent").chmod(0o755)
    modules = root / "boot/grub/i386-pc"
    modules.mkdir(parents=True)
    for path in Path("/usr/lib/grub/i386-pc").iterdir():
        if path.suffix in (".mod", ".lst"):
            shutil.copy(path, modules)
    _put(root, "etc/default/grub",
         'GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=""\n'
         f'GRUB_CMDLINE_LINUX="{BASE_LINE}"\nGRUB_DISABLE_OS_PROBER=true\nGRUB_DISABLE_RECOVERY=true\n'
         "GRUB_DISABLE_LINUX_UUID=true\nGRUB_DISABLE_LINUX_PARTUUID=false\nGRUB_TERMINAL=serial\n"
         'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n')  # fmt: skip
    (root / "etc/default/grub.d").mkdir(parents=True, exist_ok=True)
    _put(root, "boot/grub/grub.cfg",
         "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n"
         f"menuentry first {{ linux /boot/vmlinuz-{release} root=PARTUUID={DISK_SIGNATURE:08x}-01 {BASE_LINE} }}\n")  # fmt: skip


def _assemble(folder: Path, root: Path) -> Path:
    """GRUB's first sector, its core from sector 1, and one ext4 partition at 1 MiB."""
    image = folder / "disk.part"
    sectors = DISK_MIB * 2048
    with image.open("wb") as handle:
        handle.truncate(sectors * 512)
        handle.write(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
        handle.seek(440)
        entry = struct.pack(
            "<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", PARTITION_SECTOR, sectors - 2 * PARTITION_SECTOR
        )
        handle.write(struct.pack("<IH", DISK_SIGNATURE, 0) + entry + bytes(48) + b"\x55\xaa")
    _run(
        "mkfs.ext4", "-q", "-F", "-L", "vmroot", "-J", "size=16", "-O", "^metadata_csum",
        "-E", f"offset={PARTITION_SECTOR * 512},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
        "-d", root, image, f"{(DISK_MIB - 2) * 1024}k",
    )  # fmt: skip
    core = folder / "core.img"
    _run(
        "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", core,
        "biosdisk", "part_msdos", "ext2", "normal", "linux", "configfile", "search", "search_label",
        "search_fs_uuid", "echo", "test", "minicmd", "reboot", "serial", "terminal",
    )  # fmt: skip
    with image.open("r+b") as handle:
        handle.seek(512)
        handle.write(core.read_bytes())
    image.rename(folder / "disk.img")
    return folder / "disk.img"


def code_disk(project: Path, folder: Path) -> Path:
    """A small file system with this checkout's agent and the wheels it needs, as /opt/tuneagent in the guest."""
    content = folder / "code"
    shutil.copytree(project / "agent/tuneagent", content / "tuneagent", ignore=shutil.ignore_patterns("__pycache__"))
    for wheel in sorted((project / "wheelhouse/agent").glob("*.whl")):
        if not wheel.name.startswith("tuneagent-"):
            shutil.unpack_archive(wheel, content, "zip")
    _run("python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", content)
    size = sum(path.stat().st_size + 4096 for path in content.rglob("*"))
    image = folder / "code.img"
    _run(
        "mkfs.ext4", "-q", "-F", "-L", "tuneagent", "-O", "^has_journal,^metadata_csum", "-E", "root_owner=0:0",
        "-d", content, image, f"{size * 5 // 4096 + 8192}k",
    )  # fmt: skip
    return image


def acpi_tables(folder: Path, cpus: int) -> Path:
    """An SSDT that gives every CPU frequencies and idle states: QEMU itself has none.

    Port 0x0a00 is unused, so that a change of frequency is stored and has no effect.
    """
    register = "ResourceTemplate () { Register (SystemIO, 8, 0, 0x0A00) }"
    halt = "ResourceTemplate () { Register (FFixedHW, 0, 0, 0) }"
    states = ", ".join(
        f"Package () {{ {mhz}, {10000 + mhz * 10}, 10, 10, {code}, {code} }}"
        for code, mhz in enumerate((2800, 2400, 2000, 1600, 1200))
    )
    idle = ", ".join(
        f"Package () {{ {halt}, 1, {latency_us}, {power} }}" for latency_us, power in ((1, 1000), (50, 500), (400, 100))
    )
    lines = ['DefinitionBlock ("", "SSDT", 2, "TVM", "CPUFREQ", 1) {']
    lines += [f"External (\\_SB.CPUS.C{cpu:03X}, DeviceObj)" for cpu in range(cpus)]
    for cpu in range(cpus):
        lines += [
            f"Scope (\\_SB.CPUS.C{cpu:03X}) {{",
            f"Name (_PCT, Package () {{ {register}, {register} }})",
            f"Name (_PSS, Package () {{ {states} }})",
            "Name (_PPC, 0)",
            f"Name (_PSD, Package () {{ Package () {{ 5, 0, {cpu}, 0xFD, 1 }} }})",
            f"Name (_CST, Package () {{ 3, {idle} }})",
            "}",
        ]
    source = folder / "ssdt.dsl"
    source.write_text("\n".join([*lines, "}"]))
    _run("iasl", "-p", folder / "ssdt", source)
    return folder / "ssdt.aml"


def default_cache() -> Path:
    """The cache of the test tiers."""
    base = os.environ.get("TUNEAGENT_TEST_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tuneagent-test"
