"""Helpers that tests share: trees from data, mock programs, hosts that fail on purpose."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
from tuneagent.contracts.tuning_profile import ProfileSpec
from tuneagent.engine.host_tuner import STATE_FOLDER, HostTuner
from tuneagent.errors import CommandFailed, ReadFailed, WriteFailed
from tuneagent.formats.cpulist import parse_cpulist
from tuneagent.host.commands import Completed
from tuneagent.host.files import Files
from tuneagent.host.machine import Host
from tuneagent.host.processes import NoProcesses
from tuneagent.host.state_folder import StateFolder
from tuneagent.profile_files.document import Profile

FIXTURES = Path(__file__).parent / "fixtures"


def assert_keeps_to_its_schema(document: msgspec.Struct) -> None:
    """Check that a document matches the schema that it names; a report's has the type of each tunable's values."""
    found = json.loads(msgspec.json.encode(document))
    name = found["schema"].split("/")[1]
    folder = importlib.resources.files("tuneagent.contracts")
    jsonschema.validate(found, json.loads((folder / "schemas" / f"{name}.schema.json").read_text()))


def write_tree(root: Path, files: dict[str, str], folders: Sequence[str] = ()) -> None:
    """Make files and folders under `root`."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file under `root` except our own state."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not str(path.relative_to(root)).startswith(STATE_FOLDER)
    }


class PlayedPrograms:
    """systemctl and update-grub as they would act on a tree."""

    available = True
    label = "played"

    def __init__(self, root: Path, units: dict[str, dict[str, bool]] | None = None) -> None:
        self.root = root
        self.units = units or {}

    def run(self, argv: Sequence[str], timeout_s: float = 20.0) -> Completed:
        del timeout_s
        if argv[0] == "update-grub":
            return self._update_grub()
        if argv[0] == "systemctl":
            return self._systemctl(list(argv))
        if argv[0] == "grubby":
            return self._grubby(list(argv))
        raise CommandFailed(f"{argv[0]}: No such file or directory")

    def _systemctl(self, argv: list[str]) -> Completed:
        verb, name = argv[1], argv[-1].removesuffix(".service")
        unit = self.units.get(name)
        if verb == "show":
            if unit is None:
                return Completed(0, "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n", "")
            active = "active" if unit["active"] else "inactive"
            enabled = "enabled" if unit["enabled"] else "disabled"
            return Completed(0, f"LoadState=loaded\nActiveState={active}\nUnitFileState={enabled}\n", "")
        if unit is None:
            return Completed(5, "", f"Unit {name}.service not loaded.")
        key = "active" if verb in ("start", "stop") else "enabled"
        unit[key] = verb in ("start", "enable")
        return Completed(0, "", "")

    def _grubby(self, argv: list[str]) -> Completed:
        options = dict(word.removeprefix("--").split("=", 1) for word in argv[1:])
        for path in sorted((self.root / "boot/loader/entries").glob("*.conf")):
            lines = path.read_text().splitlines()
            for number, line in enumerate(lines):
                if line.startswith("options "):
                    name = options["remove-args"]
                    words = [w for w in line.split()[1:] if w.partition("=")[0] != name]
                    lines[number] = " ".join(["options", *words, *options.get("args", "").split()])
            path.write_text("\n".join(lines) + "\n")
        return Completed(0, "", "")

    def _update_grub(self) -> Completed:
        # The shell sources the files as grub-mkconfig does.
        script = (
            '. etc/default/grub; for f in etc/default/grub.d/*.cfg; do [ -e "$f" ] && . "./$f"; done; '
            'printf %s "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"'
        )
        done = subprocess.run(["sh", "-c", script], cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            return Completed(done.returncode, "", done.stderr)
        line = " ".join(done.stdout.split())
        path = self.root / "boot/grub/grub.cfg"
        text = re.sub(r"(?m)^(\s*linux\s+\S+ root=\S+).*$", lambda m: f"{m.group(1)} {line}".rstrip(), path.read_text())
        path.write_text(text)
        return Completed(0, "", "")


class Dies(BaseException):
    """The process is gone: nothing after it runs."""


class DyingFiles(Files):
    """Files whose k-th changing call is the last thing the process does, before or after its effect."""

    def __init__(self, root: str, last: int, *, after: bool) -> None:
        super().__init__(root)
        self.steps = 0
        self.last = last
        self.after = after

    def _step(self, call: Any) -> None:
        self.steps += 1
        if self.steps == self.last and not self.after:
            raise Dies
        call()
        if self.steps == self.last:
            raise Dies

    def write(self, path: str, text: str) -> None:
        self._step(lambda: super(DyingFiles, self).write(path, text))

    def replace(self, path: str, data: bytes, mode: int | None = None) -> None:
        self._step(lambda: super(DyingFiles, self).replace(path, data, mode))

    def remove(self, path: str) -> None:
        self._step(lambda: super(DyingFiles, self).remove(path))

    def append(self, path: str, data: bytes, *, sync: bool) -> None:
        self._step(lambda: super(DyingFiles, self).append(path, data, sync=sync))


class FailingFiles(Files):
    """Files on which some writes are refused or do not stick."""

    def __init__(self, root: str, refused: dict[str, str] | None = None, deaf: Sequence[str] = ()) -> None:
        super().__init__(root)
        self.refused = refused or {}
        self.deaf = set(deaf)

    def write(self, path: str, text: str) -> None:
        if path in self.refused:
            raise WriteFailed(f"{path}: {self.refused[path]}")
        if path not in self.deaf:
            super().write(path, text)


class PlayedProcesses(NoProcesses):
    """Processes with fixed environments and CPUs."""

    def __init__(self, table: dict[int, dict[str, Any]]) -> None:
        self.table = table

    def environment(self, pid: int) -> dict[str, str]:
        return dict(self._of(pid)["environment"])

    def affinity(self, pid: int) -> tuple[frozenset[int], ...]:
        return (parse_cpulist(self.table[pid]["cpus"]),)

    def shared_memory(self, pid: int) -> int:
        return int(self._of(pid)["shared_memory"])

    def run_delay(self, pid: int) -> tuple[int, int]:
        ran, waited = self._of(pid)["run_delay"]
        return ran, waited

    def _of(self, pid: int) -> dict[str, Any]:
        if pid not in self.table:
            raise ReadFailed(f"pid {pid}: gone")
        return self.table[pid]


def tree(files: Files, programs: Any = None, unreadable: dict[str, str] | None = None) -> Host:
    """A host on a tree, with a clock that stands still."""
    from tuneagent.host.commands import NoExec

    return Host(
        files,
        programs or NoExec(),
        NoProcesses(),
        source="tree",
        now=lambda: 1_800_000_000.0,
        unreadable=unreadable or {},
    )


def session_of(host: Host, tune: dict[str, Any], name: str = "case", **spec: Any) -> HostTuner:
    """A session with a profile of these settings."""
    converted = msgspec.convert({"tune": tune, **spec}, ProfileSpec)
    return HostTuner(host, StateFolder(host.files, STATE_FOLDER), Profile(name, converted))
