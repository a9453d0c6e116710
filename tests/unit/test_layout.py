"""The source tree keeps the shape that Python and the packaging need."""

from __future__ import annotations

import ast
import operator
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_source_roots_are_no_packages() -> None:
    # An operator/__init__.py would shadow the standard library and break collections, enum and json.
    assert not (ROOT / "agent/__init__.py").exists()
    assert not (ROOT / "operator/__init__.py").exists()
    assert str(operator.__file__).startswith(sysconfig.get_paths()["stdlib"])


def test_the_operator_loads_the_rules_of_tunables_and_nothing_that_changes_a_host() -> None:
    code = (
        "import sys, tuneoperator.decide.accept, tuneoperator.__main__; tuneoperator.decide.accept.Acceptance(); "
        "print([m for m in sys.modules if m in ('pynvml', 'tuneagent.engine', 'tuneagent.node', 'tuneagent.commands')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_the_daemon_loads_neither_the_terminal_nor_the_kubernetes_client() -> None:
    code = (
        "import sys, tuneagent.node.standalone, tuneagent.node.cluster_agent; "
        "print([m for m in sys.modules if m in ('click', 'rich', 'kubernetes', 'pynvml')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def loaded_by(*argv: str) -> set[str]:
    """Modules that a command has loaded when it ends."""
    code = (
        "import os, sys; from tuneagent.__main__ import main; sys.argv[0] = 'tuneagent'\n"
        "os._exit = lambda code: print(*sorted(sys.modules), file=sys.stderr)\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True, cwd="/")
    return set(done.stderr.split())


def test_the_version_loads_nothing_that_looks_at_a_host() -> None:
    own = {name for name in loaded_by("--version") if name.startswith("tuneagent")}
    assert own == {
        "tuneagent", "tuneagent.__main__", "tuneagent.commands", "tuneagent.commands.main", "tuneagent.errors",
        "tuneagent.host", "tuneagent.host.own_process",
    }  # fmt: skip
    assert "msgspec" not in loaded_by("--version")


def test_an_audit_loads_only_what_its_profile_names(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(
        "apiVersion: tuneagent.dev/v1alpha1\nkind: TuningProfile\nmetadata: {name: p}\n"
        "spec: {tune: {sysctl: {vm.swappiness: 10}}}\n"
    )
    loaded = loaded_by("audit", "-f", str(profile))
    tunables = {name for name in loaded if name.startswith("tuneagent.tunables.")}
    assert tunables == {
        f"tuneagent.tunables.{name}"
        for name in ("base", "registry", "sysctl", "tables", "tables.sysctl", "tables.sysctl_keys")
    }
    for unneeded in (
        "rich", "dataclasses", "asyncio", "pynvml", "psutil", "prometheus_client", "kubernetes", "logging",
        "tuneagent.checks", "tuneagent.node", "tuneagent.share", "tuneagent.interop", "tuneagent.jobs",
        "tuneagent.engine.apply", "tuneagent.engine.undo", "tuneagent.engine.recover",
    ):  # fmt: skip
        assert unneeded not in loaded
    # A built-in profile is kept as JSON too.
    assert "yaml" in loaded and "yaml" not in loaded_by("audit", "-p", "generic")


def test_no_module_shares_a_name_with_the_standard_library() -> None:
    names = {path.stem for folder in ("agent", "operator") for path in (ROOT / folder).rglob("*.py")}
    assert names & set(sys.stdlib_module_names) <= {"__init__", "__main__"}, names & set(sys.stdlib_module_names)


def test_what_has_no_type_is_rare() -> None:
    places = {
        path.relative_to(ROOT): sum(
            isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(path.read_text()))
        )
        for folder in ("agent", "operator")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sum(places.values()) <= 30, {path: count for path, count in places.items() if count}
    assert not [path for path, count in places.items() if count and {"contracts", "engine", "decide"} & {*path.parts}]


def test_every_module_is_of_one_size() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("agent", "operator")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 350
    }
    assert long == {}
