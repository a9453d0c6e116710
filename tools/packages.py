"""Builds the deb and the rpm into dist/: `make packages`, with ARCH=aarch64 for the other machines.

A package holds the modules of tuneagent and of the libraries that it needs, at the versions of requirements/agent.lock,
with the extension modules for each Python that a host may have. nfpm is built from its Go module, at the version of
packaging/nfpm/go.mod, and kept in the cache of the tests.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from click.shell_completion import get_completion_class
from man_pages import manual
from tuneagent import __version__
from tuneagent.commands.main import cli

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build-out/packages"
TREE = WORK / "tree"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Architecture -> its name in packages (for an rpm, nfpm turns it into x86_64 or aarch64).
WORDS = {"x86_64": "amd64", "aarch64": "arm64"}
# Wheels for the oldest C library of the systems in docs/install.md.
MANYLINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
# Packager -> the Python that its launcher starts.
INTERPRETERS = {"deb": "/usr/bin/python3", "rpm": "/usr/bin/python3.12"}
# -I: no variable or folder of a user decides what root runs. -S: nor do other packages installed for Python.
LAUNCHER = """#!{python} -IS
import sys

sys.path.insert(0, "/usr/lib/tuneagent")
from tuneagent.__main__ import main

main()
"""


def nfpm() -> Path:
    """The program nfpm, built if it is not in the cache."""
    module = ROOT / "packaging/nfpm"
    key = hashlib.sha256(b"".join((module / name).read_bytes() for name in ("go.mod", "go.sum"))).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "tuneagent-test")
    program = Path(os.environ.get("TUNEAGENT_TEST_CACHE", cache), f"nfpm-{key}")
    if not program.exists():
        print("packages: building nfpm, about half a minute", file=sys.stderr, flush=True)
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}")
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
        argv = ["go", "build", "-mod=readonly", "-trimpath", "-o", str(part), "github.com/goreleaser/nfpm/v2/cmd/nfpm"]
        subprocess.run(argv, cwd=module, env=environment, check=True)
        part.rename(program)
    return program


def _lock(version: str) -> Path:
    """The lock for one Python. pip asks the Python that runs it, not this one, whether a marker holds."""
    kept = []
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements/agent.lock").read_text()):
        marker = re.search(r" ; python_full_version < '3\.(\d+)'", entry)
        if marker is None:
            kept.append(entry)
        elif int(version.partition(".")[2]) < int(marker.group(1)):
            kept.append(entry.replace(marker.group(0), ""))
    path = WORK / f"agent-{version}.lock"
    path.write_text("\n".join(kept) + "\n")
    return path


def modules(architecture: str) -> None:
    """tuneagent and its libraries in one folder; extension modules of several Pythons have names of their own."""
    wheels = WORK / f"wheels-{architecture}"
    wheels.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    for version in PYTHONS:
        where = [f"--platform={name}_{architecture}" for name in MANYLINUX]
        asked = ["--only-binary=:all:", f"--python-version={version}", "--implementation=cp", "--no-deps", *where]
        lock = ["--require-hashes", "--requirement", _lock(version)]
        subprocess.run([*pip, "download", *asked, "--dest", wheels, *lock], check=True)
    own = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT]
    # The kernels of probes are compiled for the machine that builds: a package for another one has none.
    without = {} if architecture == platform.machine() else {"TUNEAGENT_KERNELS": "no"}
    subprocess.run([*pip, *own], check=True, env={**os.environ, **without})
    target = TREE / "usr/lib/tuneagent"
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    kernels_of_probes = target / "tuneagent/host/tuneagent-kernels"
    if kernels_of_probes.exists():
        kernels_of_probes.chmod(0o755)
    # The operator has its own image; it is not for hosts.
    shutil.rmtree(target / "tuneoperator")


def pages() -> None:
    """Manual pages, shell completions, the licence and the changelog."""
    folder = TREE / "usr/share/man/man1"
    folder.mkdir(parents=True)
    for name, text in manual().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (TREE / "completions").mkdir()
    for shell in ("bash", "zsh", "fish"):
        found = get_completion_class(shell)
        assert found is not None
        (TREE / "completions" / shell).write_text(found(cli, {}, "tuneagent", "_TUNEAGENT_COMPLETE").source())
    documents = TREE / "usr/share/doc/tuneagent"
    shutil.copytree(ROOT / "examples", documents / "examples")
    shutil.copyfile(ROOT / "LICENSE", documents / "copyright")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, documents / name)
    # README's links lead there.
    (documents / "docs").mkdir()
    for path in (*(ROOT / "docs").glob("*.md"), ROOT / "docs/audit.svg"):
        shutil.copyfile(path, documents / "docs" / path.name)


def launchers() -> None:
    """The command, for the Python of each family of distributions."""
    for packager, python in INTERPRETERS.items():
        path = TREE / packager / "tuneagent"
        path.parent.mkdir()
        path.write_text(LAUNCHER.format(python=python))


def epoch() -> str:
    """The time stamp of files in a package: the time of the commit, so that the same commit gives the same package."""
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "0"


def main() -> int:
    """Build both packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=sorted(WORDS), default=platform.machine())
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    if shutil.which("go") is None:
        print("packages: go is not installed; nfpm is built from its Go module", file=sys.stderr)
        return 1
    shutil.rmtree(WORK, ignore_errors=True)
    modules(given.architecture)
    pages()
    launchers()
    given.out.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    environment = {
        **os.environ, "VERSION": __version__, "ARCH": WORDS[given.architecture], "SOURCE_DATE_EPOCH": epoch(),
    }  # fmt: skip
    for packager in INTERPRETERS:
        argv = [nfpm(), "package", "--config", "packaging/nfpm.yaml", "--packager", packager, "--target", given.out]
        subprocess.run(argv, cwd=ROOT, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
