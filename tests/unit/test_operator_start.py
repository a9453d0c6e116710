"""The operator's program without its extra."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_kubernetes_client_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['kubernetes'] = None\nfrom tuneoperator.start import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("tuneagent-operator: the module kubernetes is missing: pip install 'tuneagent[operator]'\n")


def test_any_other_missing_module_is_an_error_of_ours() -> None:
    code = "import sys; sys.modules['click'] = None\nfrom tuneoperator.start import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr
