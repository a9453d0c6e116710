"""What must stay bounded whatever the machine: files read, flushes, modules loaded. Time is not asserted anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from machines import build, counted_audit
from support import session_of, tree, write_tree
from tuneagent.host.files import Files


def test_files_read_grow_at_most_with_the_cpus(tmp_path: Path) -> None:
    counts = {}
    for name, cores in (("small", 16), ("large", 96)):
        shape = {"nodes": 2, "cores": cores, "smt": 2, "gpus": [0, 0, 0, 0, 1, 1, 1, 1], "nics": [0, 1]}
        write_tree(tmp_path / name, build(shape))
        counts[name] = counted_audit(tmp_path / name)
    grown = 384 / 64
    assert counts["small"][0] > 100 and counts["small"][1] > 1000
    assert counts["large"][0] <= counts["small"][0] * grown
    assert counts["large"][1] <= counts["small"][1] * grown * 1.2


class CountedFiles(Files):
    """Files that count what is flushed to disk for the journal."""

    flushes = 0

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        self.flushes += sync
        super().append(path, data, sync=sync)


def test_one_flush_of_the_journal_for_each_tunable(tmp_path: Path) -> None:
    keys = ("vm.swappiness", "vm.stat_interval", "vm.vfs_cache_pressure")
    files = {f"proc/sys/{key.replace('.', '/')}": "7\n" for key in keys} | {"sys/kernel/mm/ksm/run": "1\n"}
    write_tree(tmp_path, files, ["etc/sysctl.d", "etc/tmpfiles.d"])
    counted = CountedFiles(str(tmp_path))
    applied = session_of(tree(counted), {"sysctl": dict.fromkeys(keys, 9), "ksm": {"run": False}}).apply()
    assert [outcome.result for outcome in applied.outcomes] == ["verified"] * 4
    assert counted.flushes == 2


def modules_of(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def test_the_daemon_path_loads_no_cluster_client_and_no_library_of_tables() -> None:
    loaded = modules_of("import tuneagent.node.standalone")
    for name in (
        "kubernetes",
        "rich",
        "pynvml",
        "tuneagent.gpu.nvml_child",
        "tuneagent.node.api_client",
        "tuneagent.node.cluster_agent",
        "asyncio",
    ):
        assert name not in loaded, name


def test_what_every_command_starts_with_loads_little() -> None:
    loaded = modules_of("import tuneagent.__main__") - modules_of("")
    for name in ("click", "msgspec", "re", "json", "pathlib", "subprocess", "contextlib", "tuneagent.commands.main"):
        assert name not in loaded, name


def test_an_audit_loads_no_server_no_client_and_no_process_library() -> None:
    loaded = modules_of(
        "import sys\nsys.argv = ['tuneagent', '--root', '/nonexistent', 'audit']\n"
        "from tuneagent.commands.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    )
    for name in ("kubernetes", "rich", "pynvml", "prometheus_client", "psutil", "http.server", "asyncio"):
        assert name not in loaded, name
