"""Part of the wheel's build: the compiled kernels of `tuneagent probe`, where there is a C compiler.

Without one, or with TUNEAGENT_KERNELS=no (a package for another architecture), the wheel has none, and probes that need
them say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAM = "agent/tuneagent/host/tuneagent-kernels"
FLAGS = ("-O2", "-ftree-vectorize", "-std=gnu11", "-Wall", "-Wextra", "-pthread")


class Kernels(BuildHookInterface):
    """Builds the program and marks the wheel as one for this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is put together."""
        del version
        program = Path(self.root, PROGRAM)
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if os.environ.get("TUNEAGENT_KERNELS") == "no" or compiler is None:
            return
        sources = sorted(Path(self.root, "native").glob("*.c"))
        # In its own place first: another build, or a probe, may use the one that is there.
        made = program.with_name(f"{program.name}.{os.getpid()}")
        done = subprocess.run(
            [compiler, *FLAGS, "-o", made, *sources, "-ldl"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            self.app.display_warning(f"probes are built without their kernels: {done.stderr.strip()[:2000]}")
            return
        made.replace(program)
        build_data["artifacts"].append(f"/{PROGRAM}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
