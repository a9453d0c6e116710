"""Rewrites the screens of the captured machines: review the difference before you commit it.

tests/record_screens.py
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from unittest import mock

from captured_hosts import HOSTS, tuner_of
from click.testing import CliRunner
from support import FIXTURES
from tuneagent.commands.main import cli
from tuneagent.contracts.report import Report
from tuneagent.engine.names import namer
from tuneagent.report.audit_lines import report_lines, report_plain
from tuneagent.report.audit_screen import report_text
from tuneagent.report.findings import Invocation
from tuneagent.report.text import plan_head, plan_text
from tuneagent.tunables.registry import registry

SCREENS = FIXTURES / "screens"
WIDTHS = (80, 100, 200)
PROFILES = ("generic", "training")


def screens_of(place: Path, profile: str) -> tuple[Report, dict[str, str]]:
    """The report of a kept machine, and its screens by the ends of their names."""
    with tempfile.TemporaryDirectory() as folder:
        found = tuner_of(place, Path(folder), profile).observe(with_machine=True)
        kept = "--capture" if (place / "capture.tar.gz").is_file() else "--root"
        called = Invocation(f" {kept} {place.name}", f" -p {profile}", is_writable=kept == "--root")
        made = {f"{width}.txt": report_text(found.report, columns=width, called=called) for width in WIDTHS}
        made |= {"pipe.txt": report_lines(found.report, called=called), "plain.tsv": report_plain(found.report)}
        head = plan_head(found.report, called)
        made |= {"plan.txt": plan_text(found.plan, namer(registry()), 80, found.report.findings, head)}
        return found.report, made


# A first session on the tree of a real machine with eight GPUs, as docs/getting-started-host.md shows it.
SESSION = (
    ("audit", "audit -f my-node.yaml"),
    ("plan", "plan -f my-node.yaml"),
    ("apply", "apply -f my-node.yaml --yes"),
    ("audit-after", "audit -f my-node.yaml"),
    ("status", "status"),
    ("journal", "journal"),
    ("why", "why -f my-node.yaml vm.swappiness"),
    ("undo", "undo"),
)
SESSION_MACHINE = "h200x8-vm"
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


def session_screens() -> dict[str, str]:
    """What each command of the session prints on a terminal of 80 columns, by name. All times are set to one value."""
    made = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as patches:
        patches.callback(os.chdir, Path.cwd())
        os.chdir(name)
        with tarfile.open(HOSTS / SESSION_MACHINE / "tree.tar.gz") as archive:
            archive.extractall(name)
        Path("root").rename("h200x8")
        shutil.copy(FIXTURES.parents[1] / "examples/profiles/my-node.yaml", name)
        for place in ("tuneagent.host.terminal", "tuneagent.commands.read_commands"):
            patches.enter_context(mock.patch(f"{place}.is_terminal", return_value=True))
        patches.enter_context(mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}))
        for which, command in SESSION:
            shown = CliRunner().invoke(cli, ["--root", "h200x8", *command.split()])
            made[f"session.{which}.txt"] = _TIME.sub("2026-11-27 09:00:00Z", shown.output.rstrip("\n"))
    return made


def main() -> None:
    """Write tests/fixtures/screens."""
    SCREENS.mkdir(exist_ok=True)
    for place in sorted(HOSTS.iterdir()):
        for profile in PROFILES:
            for end, text in screens_of(place, profile)[1].items():
                (SCREENS / f"{place.name}.{profile}.{end}").write_text(text + "\n")
    for name, text in session_screens().items():
        (SCREENS / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
