"""Kills apply and undo before and after every call that changes a file, then undoes and compares with the baseline.

    tests/faults/kills.py [--pairs]

A child applies thirty-eight changes to a tree, or undoes them, and sends itself SIGKILL at one call. Afterwards one `undo`
must give the tree back byte for byte, folders and leftovers included, with an empty journal to show for it. With `--pairs`
the recovery is killed as well, at a call of its own, before the undo that counts. Exit 1 if one comes out otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from large_tree import FILES, TUNE
from support import session_of, tree, write_tree
from tuneagent.contracts.values import Disruption
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.host.files import Files

# Every call of `os` by which a file or a folder changes; `open` where it makes one.
CALLS = (
    "open", "write", "rename", "unlink", "mkdir", "rmdir", "ftruncate", "truncate", "fchmod", "chmod", "fchown",
    "setxattr", "posix_fallocate", "fsync", "pwrite",
)  # fmt: skip
MORE_FILES = {
    "sys/kernel/mm/ksm/run": "1\n",
    "proc/1/limits": "Max locked memory         8388608              8388608              bytes\n"
    "Max open files            1024                 1024                 files\n",
    "sys/bus/pci/devices/0000:1b:00.0/class": "0x030200\n",
    "sys/bus/pci/devices/0000:1b:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:1b:00.0/power/control": "auto\n",
    "sys/module/zswap/parameters/enabled": "Y\n",
    "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
}
MORE = {
    "ksm": {"run": False},
    "limits": {"memlock": "infinity", "nofile": 1048576},
    "pciPower": {"devices": ["gpu"]},
    "kernelFiles": {"zswap": False},
}
CHANGES = 38


def make(root: Path) -> None:
    """The tree before anything is applied. Folders of drop-ins that undo must take away again are missing."""
    write_tree(root, {**FILES, **MORE_FILES}, ["etc/systemd", "etc/security", "etc/udev/rules.d", "usr/bin"])
    (root / "usr/bin/systemd-tmpfiles").write_text("")


def tuner(root: Path) -> HostTuner:
    """The tree under its profile."""
    sysctl = {**TUNE["sysctl"], "net.ipv4.tcp_rmem": "4096 262144 67108864"}
    return session_of(tree(Files(str(root))), {**TUNE, "sysctl": sysctl, **MORE})


def apply(root: Path) -> None:
    """Every change."""
    outcomes = tuner(root).apply(limit=Disruption.REBOOT).outcomes
    assert len(outcomes) == CHANGES and {one.result for one in outcomes} == {"verified"}, outcomes


def undo(root: Path) -> None:
    """Back to the baseline."""
    results = tuner(root).undo()
    assert all(one.is_settled or one.result == "kept" for one in results), results


def picture(root: Path) -> dict[str, bytes | None]:
    """Every file with its content and every folder, but for our own state."""
    found: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not (f"{STATE_FOLDER}/".startswith(f"{name}/") or name.startswith(STATE_FOLDER)):
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def in_child(act: Callable[[Path], None], root: Path, last: int, *, after: bool) -> int:
    """Run in a child that dies at its call number `last`, or never at 0. The calls that it made; -1 if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        calls = _count_calls(last, after=after)
        code = 1
        try:
            act(root)
            code = 0
        finally:
            REAL["write"](writing, str(next(calls)).encode())
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert os.waitstatus_to_exitcode(status) == 0, f"{act.__name__} failed by itself"
    return int(text)


REAL = {name: getattr(os, name) for name in CALLS}


def _count_calls(last: int, *, after: bool) -> Iterator[int]:
    """Wrap every call so that it counts, and kills at `last`. Gives the count when asked."""
    count = 0

    def wrapped(name: str) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            nonlocal count
            if name == "open" and not int(given[1]) & os.O_CREAT:  # type: ignore[call-overload]
                return REAL[name](*given, **named)
            count += 1
            if count == last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            mine = count
            try:
                return REAL[name](*given, **named)
            finally:
                if mine == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name))

    def counted() -> Iterator[int]:
        yield count

    return counted()


def kills(
    before: Path, act: Callable[[Path], None], wanted: dict[str, bytes | None], *, pairs: bool
) -> tuple[int, list[str]]:
    """Kill `act` at every call on copies of `before`, undo, compare. How many were tried, and what came out wrong."""
    with tempfile.TemporaryDirectory() as folder:
        count = in_child(act, Path(shutil.copytree(before, f"{folder}/count", symlinks=True)), 0, after=False)
        wrong: list[str] = []
        for number in range(1, count + 1):
            for after in (False, True):
                root = Path(shutil.copytree(before, f"{folder}/tree", symlinks=True))
                name = f"{act.__name__}, killed {'after' if after else 'before'} call {number} of {count}"
                try:
                    assert in_child(act, root, number, after=after) == -1
                    if pairs:
                        in_child(undo, root, random.Random(number).randint(1, count), after=after)
                    undo(root)
                    found = picture(root)
                    different = {path for path in {*found, *wanted} if found.get(path, 0) != wanted.get(path, 0)}
                    if different or tuner(root).journal.applied():
                        wrong.append(f"{name}: {sorted(different)[:4] or 'the journal is not empty'}")
                except Exception as error:
                    wrong.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
                shutil.rmtree(root)
    return 2 * count, wrong


def main() -> int:
    """Print counts; 1 if one tree is not as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", action="store_true", help="kill the recovery as well")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        fresh, applied = Path(folder, "fresh"), Path(folder, "applied")
        make(fresh)
        wanted = picture(fresh)
        shutil.copytree(fresh, applied)
        apply(applied)
        for before, act in ((fresh, apply), (applied, undo)):
            started = time.monotonic()
            tried, wrong = kills(before, act, wanted, pairs=options.pairs)
            failed += len(wrong)
            print(
                f"{act.__name__}: {tried - len(wrong)} of {tried} kills end at the baseline ({time.monotonic() - started:.0f} s)"
            )
            for line in wrong[:20]:
                print(f"  {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
