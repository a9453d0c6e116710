"""Runs every tier of tests, times each, and lists at the end what could not be run and why.

As root on Debian or Ubuntu it installs the packages that the tiers need; PACKAGES=no turns that off. On a user's
machine, a tier that lacks something is skipped with the reason; with CI=true that is an error.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-q"]


@dataclass(frozen=True)
class Tier:
    """One tier: its tests, the programs or files it needs with the Debian package of each, whether it needs root."""

    name: str
    argv: tuple[str, ...]
    needs: tuple[tuple[str, str], ...] = ()
    root: bool = False
    # A step that takes long the first time and reports its progress; the tests use its result.
    prepare: str = ""


TIERS = (
    Tier("unit", ("tests/unit", "-n", "auto")),
    Tier("gpu", ("tests/gpu", "-n", "auto"), (("gcc", "gcc"), ("taskset", "util-linux"))),
    Tier(
        "host",
        ("tests/host", "-W", "default", "-s"),
        (
            ("strace", "strace"), ("tuned-adm", "tuned"), ("systemctl", "systemd"), ("groff", "groff-base"),
            ("go", "golang, 1.26 or later"), ("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"),
            ("modprobe", "kmod"),
        ),
        root=True,
    ),
    Tier(
        "vm",
        ("tests/vm", "-W", "default"),
        (
            ("qemu-system-x86_64", "qemu-system-x86"), ("qemu-img", "qemu-utils"), ("iasl", "acpica-tools"),
            ("grub-mkimage", "grub-common"), ("mmdebstrap", "mmdebstrap"), ("mkfs.ext4", "e2fsprogs"),
            ("apt-get", "apt"), ("setpriv", "util-linux"), ("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
        ),
        root=True,
    ),
    Tier(
        "cluster",
        ("tests/cluster", "-W", "default"),
        (
            ("go", "golang, 1.26 or later"), ("gcc", "gcc"), ("openssl", "openssl"), ("runc", "runc"),
            ("mmdebstrap", "mmdebstrap"), ("nsenter", "util-linux"), ("setpriv", "util-linux"), ("flock", "util-linux"),
        ),
        root=True,
        prepare="tests/cluster/binaries.sh",
    ),
)  # fmt: skip


def missing(tier: Tier) -> list[str]:
    """What this machine lacks for a tier."""
    found = [f"{need} (package {package})" for need, package in tier.needs if not is_there(need)]
    if tier.root and os.geteuid() != 0:
        found.append("root")
    if tier.name in ("cluster", "vm") and platform.system() != "Linux":
        found.append("Linux")
    return found


def is_there(need: str) -> bool:
    """Whether a program is on PATH, or a file where it should be."""
    return Path(need).exists() if need.startswith("/") else shutil.which(need) is not None


def packages(tiers: list[Tier]) -> list[str]:
    """Debian packages that the tiers need and this machine lacks."""
    return sorted(
        {package for tier in tiers for need, package in tier.needs if not is_there(need) and " " not in package}
    )


def install(names: list[str]) -> None:
    """Print what is installed, and install it. If that fails, the tiers that lack it say so."""
    print(f"installing {', '.join(names)} for the tests; PACKAGES=no skips this", file=sys.stderr, flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["update", "-qq"], ["install", "-y", "-qq", *names]):
        subprocess.run(["apt-get", *argv], env=quiet, stdout=subprocess.DEVNULL, check=False)


def main() -> int:
    """Run the tiers named, or all."""
    chosen = [tier for tier in TIERS if not sys.argv[1:] or tier.name in sys.argv[1:]]
    in_ci = os.environ.get("CI") == "true"
    lacking_packages = packages(chosen)
    may_install = os.geteuid() == 0 and shutil.which("apt-get") and os.environ.get("PACKAGES") != "no"
    if lacking_packages and may_install:
        install(lacking_packages)
    results: list[str] = []
    failed = False
    for tier in chosen:
        lacking = missing(tier)
        if lacking:
            results.append(f"{tier.name}: SKIPPED, this machine lacks {', '.join(lacking)}")
            failed = failed or in_ci
            continue
        started = time.monotonic()
        code = 0
        if tier.prepare:
            code = subprocess.run([ROOT / tier.prepare], stdout=subprocess.DEVNULL, check=False).returncode
        code = code or subprocess.run([*PYTEST, *tier.argv], cwd=ROOT, check=False).returncode
        failed = failed or code != 0
        results.append(
            f"{tier.name}: {'passed' if code == 0 else f'FAILED ({code})'} in {time.monotonic() - started:.0f} s"
        )
    print("\ntiers")
    for line in results:
        print(f"  {line}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
