"""The deb and the rpm: built, installed in a clean Debian, used there, and removed again."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_image import default_cache
from machine import sysctl_path

PROJECT = Path(__file__).parents[2]
KEY = "vm.stat_interval"
PROFILE = f"""apiVersion: tuneagent.dev/v1alpha1
kind: TuningProfile
metadata: {{name: packaged}}
spec: {{tune: {{sysctl: {{{KEY}: 7}}}}}}
"""
# What the packagers keep of a package that has been removed.
BOOKS = ("var/lib/dpkg", "var/log", "var/lib/rpm", "root/.rpmdb", "usr/lib/sysimage", "var/cache", "run", "tmp")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both packages, by their ending."""
    out = tmp_path_factory.mktemp("packages")
    subprocess.run([sys.executable, PROJECT / "tools/packages.py", "--out", out], check=True)
    return {path.suffix[1:]: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def debian() -> Path:
    """A clean Debian with systemd, Python and rpm, made once."""
    folder = default_cache() / "debian-bookworm-systemd-python-rpm"
    if not folder.exists():
        part = folder.with_suffix(f".{os.getpid()}")
        argv = ["mmdebstrap", "--variant=minbase", "--quiet", "--include=systemd,python3,rpm", "bookworm", part]
        subprocess.run(argv, check=True)
        part.rename(folder)
    return folder


@pytest.fixture
def clean(debian: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it; the setting that is written through it is put back."""
    before = sysctl_path(KEY).read_text()
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", debian, root], check=True)
    # Debian has one Python, and not that of RHEL: the modules are told apart by its real version, not by this name.
    (root / "usr/bin/python3.12").symlink_to("python3")
    yield root
    sysctl_path(KEY).write_text(before)
    shutil.rmtree(root)


def inside(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the tree, with this kernel's /proc and /sys, in a mount namespace that ends with it."""
    script = 'mount -t proc proc "$0/proc"; mount -t sysfs -o ro sysfs "$0/sys"; exec chroot "$0" "$@"'
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, root, *argv], capture_output=True, text=True, check=False,
        env=environment, timeout=300,
    )  # fmt: skip


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content(root: Path) -> dict[str, str]:
    """Every file and folder of the tree but the packagers' books, with the digest of what is in it."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if not name.startswith((*BOOKS, "proc", "sys", "dev")):
            is_file = path.is_file() and not path.is_symlink()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
    return found


COMMANDS = {
    "deb": (("dpkg", "--install"), ("dpkg", "--remove", "tuneagent")),
    # The clean tree's packages are Debian's, so rpm knows of none and cannot look for Python among them.
    "rpm": (("rpm", "--install", "--nodeps"), ("rpm", "--erase", "tuneagent")),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_package_works_and_leaves_its_state_alone_behind(kind: str, packages: dict[str, Path], clean: Path) -> None:
    install, remove = COMMANDS[kind]
    before = content(clean)
    shutil.copy(packages[kind], clean / "tmp")
    (clean / "tmp/profile.yaml").write_text(PROFILE)
    must(inside(clean, *install, f"/tmp/{packages[kind].name}"))

    assert must(inside(clean, "tuneagent", "--version")).startswith("tuneagent, version ")
    # The host's tree has no driver: NVML's child ran, and said so.
    audit = inside(clean, "tuneagent", "audit")
    assert audit.returncode == 3 and "no NVIDIA GPU" in audit.stdout and "child" not in audit.stdout
    completed = inside(
        clean, "env", "_TUNEAGENT_COMPLETE=bash_complete", "COMP_WORDS=tuneagent au", "COMP_CWORD=1", "tuneagent"
    )
    assert completed.stdout == "plain,audit\n"
    pages = sorted(path.name for path in (clean / "usr/share/man/man1").glob("tuneagent*"))
    assert {"tuneagent.1.gz", "tuneagent-audit.1.gz", "tuneagent-profile-check.1.gz"} <= set(pages)
    must(inside(clean, "tuneagent", "apply", "--file", "/tmp/profile.yaml", "--yes"))
    assert sysctl_path(KEY).read_text() == "7\n"

    removed = inside(clean, *remove)
    must(removed)
    assert "the settings that it has written stay as they are" in removed.stderr
    after = content(clean)
    assert {name: digest for name, digest in before.items() if after.get(name) != digest} == {}
    left = {name for name in after if name not in before}
    state = {"journal.jsonl", "lock", "journal.reserve"}
    assert {name for name in left if not name.startswith("var/lib/tuneagent")} == {"etc/sysctl.d/99-zz-tuneagent.conf"}
    assert {Path(name).name for name in left if name.startswith("var/lib/tuneagent/")} <= state

    must(inside(clean, *install, f"/tmp/{packages[kind].name}"))
    must(inside(clean, "tuneagent", "undo"))
    assert not (clean / "etc/sysctl.d/99-zz-tuneagent.conf").exists()
    removed = inside(clean, *remove)
    assert removed.returncode == 0 and "stay as they are" not in removed.stderr


def test_a_package_is_not_removed_while_an_apply_may_have_to_be_undone(packages: dict[str, Path], clean: Path) -> None:
    shutil.copy(packages["deb"], clean / "tmp")
    must(inside(clean, "dpkg", "--install", f"/tmp/{packages['deb'].name}"))
    note = f'{{"plan":"p","deadline":4102444800.0,"keys":[["sysctl","key:{KEY}"]]}}'
    (clean / "var/lib/tuneagent").mkdir(mode=0o700)
    (clean / "var/lib/tuneagent/confirm.json").write_text(note)
    refused = inside(clean, "dpkg", "--remove", "tuneagent")
    assert refused.returncode != 0 and "run `tuneagent confirm` or `tuneagent undo` first" in refused.stderr
    assert must(inside(clean, "tuneagent", "--version"))


def test_manual_pages_have_no_fault(packages: dict[str, Path]) -> None:
    """roff reads every page without a warning, and each option of a command is in its page."""
    folder = PROJECT / "build-out/packages/tree/usr/share/man/man1"
    for path in folder.glob("*.gz"):
        text = gzip.decompress(path.read_bytes())
        done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=text, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), path.name
    apply = gzip.decompress((folder / "tuneagent-apply.1.gz").read_bytes()).decode()
    assert ".B tuneagent apply\n" in apply and r"\fB\-\-confirm\-within\fP" in apply
