"""Changes the code of engine, persist and node one place at a time and asks whether the unit tier notices.

    tests/mutants/mutants.py [--folder DIR] [--fresh] [--again] [--results] [NAME ...]

Uses mutmut on a copy of the tree, with a virtual environment of its own; a second run tries what has changed. A name
is that of a mutant, with `*` for any part. The tests that are left out below take long and cover what others cover. Whatever survives must be listed in
survivors.txt with a reason, and every line there must be of one that survives: else exit 1. Also exit 1 below 85 %.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.txt")
VERSION = "3.8.1"
LEAST = 0.85
KILLED = (
    1,
    3,
    24,
    -24,
    36,
    37,
)  # exit codes of mutmut: a failed test, an error of pytest, a timeout, a caught type error
ROOMS = ("engine", "persist", "node")
LEFT_OUT = (
    "test_layout.py",
    "test_starts.py",
    "test_rows.py",
    "test_check_hosts.py",
    "test_examples.py",
    "test_capture_secrets.py",
    "test_rollout.py",
    "test_machines.py",
    "test_hosts.py",
    "test_hunt.py",
    "test_words.py",
    "test_pages.py",
    "test_screens.py::test_screens_of_real_machines",
    "test_boundaries.py::test_no_profile_file_and_no_journal_ends_a_running_daemon",
    "test_boundaries.py::test_a_daemon_on_a_host_writes_nothing_unless_the_profile_says_so",
    "test_crash.py::test_death_at_every_step",
    "test_faults.py::test_random_faults",
)


def synchronize(source: Path, target: Path) -> None:
    """Make a folder equal to another one; what is equal keeps its time, by which mutmut knows what has changed."""
    wanted = {
        path.relative_to(source): path
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "build" not in path.relative_to(source).parts
    }
    for path in list(target.rglob("*")):
        if path.is_file() and path.relative_to(target) not in wanted:
            path.unlink()
    for name, path in wanted.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(path.stat().st_mode)


def make(folder: Path) -> None:
    """A copy of the tree in the layout that mutmut takes; what was found of files that have not changed is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    synchronize(ROOT / "agent/tuneagent", folder / "src/tuneagent")
    synchronize(ROOT / "operator/tuneoperator", folder / "src/tuneoperator")
    synchronize(ROOT / "tests", folder / "tests")
    # mutmut makes its own copy: of the tests it removes nothing, and of the code only what it changes is made anew.
    shutil.rmtree(folder / "mutants/tests", ignore_errors=True)
    # Which test reaches what is asked anew: a test that has changed may reach more.
    (folder / "mutants/mutmut-stats.json").unlink(missing_ok=True)
    for path in (folder / "src").rglob("*"):
        parts = path.relative_to(folder / "src").parts
        target = folder / "mutants/src" / path.relative_to(folder / "src")
        if not path.is_file() or not target.parent.exists():
            continue
        if not (len(parts) > 2 and parts[1] in ROOMS):
            shutil.copyfile(path, target)
        elif target.exists() and path.stat().st_mtime > target.stat().st_mtime:
            # Which lines tests cover is asked of the copy: of one that is changed already, other lines would count.
            target.unlink()
    others = ("examples", "manifests", "tools", "packaging", "README.md")
    for other in others:
        if (ROOT / other).is_dir():
            synchronize(ROOT / other, folder / other)
        else:
            shutil.copyfile(ROOT / other, folder / other)
    without = [f"--{'deselect' if '::' in name else 'ignore'}=tests/unit/{name}" for name in LEFT_OUT]
    (folder / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\npythonpath = ["tests", "tests/cluster", "src"]\naddopts = ["--import-mode=importlib"]\n'
        "[tool.mutmut]\n"
        'source_paths = ["src"]\n'
        f"only_mutate = {json.dumps([f'src/tuneagent/{room}/*' for room in ROOMS])}\n"
        "mutate_only_covered_lines = true\n"
        f"also_copy = {json.dumps(others)}\n"
        'pytest_add_cli_args = ["-q", "-p", "no:cacheprovider"]\n'
        f"pytest_add_cli_args_test_selection = {json.dumps(['tests/unit', *without])}\n"
    )
    # Python remembers a folder of its path that was missing at the start as missing.
    for name in ("mutants/src", "mutants/tests"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def environment(folder: Path) -> Path:
    """The folder of programs of a virtual environment with the locked packages and mutmut."""
    programs = folder / "venv/bin"
    if not (programs / "mutmut").exists():
        venv.create(folder / "venv", with_pip=True)
        lock = str(ROOT / "requirements/dev.lock")
        subprocess.run([programs / "pip", "install", "-q", "--require-hashes", "-r", lock], check=True)
        subprocess.run([programs / "pip", "install", "-q", f"mutmut=={VERSION}"], check=True)
        command = programs / "tuneagent"
        command.write_text(f"#!{programs}/python\nimport sys\nfrom tuneagent.__main__ import main\nsys.exit(main())\n")
        command.chmod(0o755)
    return programs


def results(folder: Path) -> dict[str, int | None]:
    """Exit code of the tests for each mutant; None for one that was not tried, 0 for one that survived."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants/src/tuneagent").rglob("*.meta")):
        found.update(json.loads(path.read_text())["exit_code_by_key"])
    return found


def reasons() -> list[tuple[re.Pattern[str], str]]:
    """Patterns over `NAME: removed line -> added line`, each with why what it matches may survive."""
    lines = [line for line in SURVIVORS.read_text().splitlines() if line and not line.startswith("#")]
    return [(re.compile(pattern), reason) for reason, _, pattern in (line.partition(" | ") for line in lines)]


def change(programs: Path, folder: Path, name: str) -> str:
    """What a mutant changes, on one line."""
    done = subprocess.run([programs / "mutmut", "show", name], cwd=folder, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if re.match(r"[-+](?![-+])", line)]
    return f"{name}: {' '.join(line[0] + line[1:].strip() for line in lines)}"


def main() -> int:
    """Run, count, compare with the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build-out/mutants")
    parser.add_argument("--results", action="store_true", help="Only read what the last run found.")
    parser.add_argument("--again", action="store_true", help="Try what survives once more: with the tests of now.")
    parser.add_argument("--fresh", action="store_true", help="Forget what earlier runs found.")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    folder = given.folder.resolve()
    programs = environment(folder)
    if given.fresh:
        shutil.rmtree(folder / "mutants", ignore_errors=True)
    if not given.results:
        make(folder)
        path = f"{folder}/mutants/src:{folder}/mutants/tests"
        variables = {**os.environ, "PYTHONPATH": path}
        subprocess.run([programs / "mutmut", "run", *given.names], cwd=folder, env=variables, check=True)
        alive = [name for name, code in results(folder).items() if code is not None and code not in KILLED]
        if given.again and alive:
            subprocess.run([programs / "mutmut", "run", *alive], cwd=folder, env=variables, check=True)
    codes = {name: code for name, code in results(folder).items() if code is not None}
    known = reasons()
    rooms: dict[str, Counter[str]] = {room: Counter() for room in ROOMS}
    used: set[str] = set()
    unexplained = []
    for name, code in codes.items():
        killed = code in KILLED
        rooms[name.split(".")[1]]["killed" if killed else "survived"] += 1
        if killed:
            continue
        text = change(programs, folder, name)
        reason = next(((pattern.pattern, why) for pattern, why in known if pattern.search(text)), None)
        used |= {reason[0]} if reason else set()
        if reason is None:
            unexplained.append(text)
    print("\n".join(unexplained))
    for room, count in rooms.items():
        if count.total():
            print(f"{room}: {count['killed']} of {count.total()} killed ({count['killed'] / count.total():.1%})")
    share = sum(count["killed"] for count in rooms.values()) / max(len(codes), 1)
    idle = [pattern.pattern for pattern, _ in known if pattern.pattern not in used] if not given.names else []
    print(f"all: {share:.1%} killed, {len(unexplained)} survive without a reason in survivors.txt")
    print("".join(f"matches nothing that survives: {pattern}\n" for pattern in idle), end="")
    return 0 if share >= LEAST and not unexplained and not idle else 1


if __name__ == "__main__":
    sys.exit(main())
