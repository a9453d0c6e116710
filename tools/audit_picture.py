"""The picture of an audit in the README: what `tuneagent audit` prints for a stored capture, as SVG."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from click.testing import CliRunner
from rich.console import Console
from rich.text import Text
from tuneagent.commands.main import cli

CAPTURE = Path(__file__).parents[1] / "tests/fixtures/hosts/h100-live/capture.tar.gz"
COLUMNS = 92


def audit_picture() -> str:
    """An SVG document. The same audit always gives the same document."""
    argv = ["--capture", "h100.tar.gz", "audit"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        shutil.copyfile(CAPTURE, Path(folder) / argv[1])
        patches.callback(os.chdir, Path.cwd())
        os.chdir(folder)
        for place in ("tuneagent.host.terminal", "tuneagent.commands.read_commands"):
            patches.enter_context(mock.patch(f"{place}.is_terminal", return_value=True))
        # Nothing of the caller's environment shows in the picture.
        patches.enter_context(mock.patch.dict(os.environ, {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}, clear=True))
        shown = CliRunner().invoke(cli, argv, color=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ tuneagent {' '.join(argv)}\n{shown.stdout}"), soft_wrap=True)
    return console.export_svg(title="tuneagent", unique_id="audit") + "\n"
