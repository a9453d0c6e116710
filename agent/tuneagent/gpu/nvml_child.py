"""The child that talks to NVML: one command, one JSON answer on stdout, then it ends.

Calls and structures: nvml.h of driver 580, as bound by nvidia-ml-py.
"""

from __future__ import annotations

import ctypes
import os
import sys

import msgspec
import pynvml

from tuneagent.gpu.mig.board import MigLayout
from tuneagent.gpu.mig.change import NvmlWriteFailed, apply_mig
from tuneagent.gpu.nvml_read import snapshot
from tuneagent.gpu.nvml_watch import watch

# Folders under the host's root where drivers put the library when the loader does not know it.
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    "run/nvidia/driver/usr/lib64",
)


def main(arguments: list[str]) -> int:
    """Run one command and print the answer."""
    answer: dict[str, object]
    try:
        _open_library()
    except pynvml.NVMLError as error:
        known = isinstance(error, (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded))
        answer = {"absent": f"no NVIDIA driver ({error})"} if known else {"error": f"NVML: {error}"}
        sys.stdout.buffer.write(msgspec.json.encode(answer))
        return 0
    try:
        answer = _command(arguments)
    except (pynvml.NVMLError, NvmlWriteFailed) as error:
        answer = {"error": f"NVML {arguments[0]}: {error}"}
    finally:
        pynvml.nvmlShutdown()
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _open_library() -> None:
    try:
        pynvml.nvmlInit()
        return
    except pynvml.NVMLError_LibraryNotFound:
        root = os.environ.get("TUNEAGENT_NVML_ROOT", "/")
        for folder in _LIBRARY_FOLDERS:
            path = os.path.join(root, folder, "libnvidia-ml.so.1")
            if os.path.exists(path):
                pynvml.nvmlLib = ctypes.CDLL(path)
                pynvml.nvmlInit()
                return
        raise


def _command(arguments: list[str]) -> dict[str, object]:
    name = arguments[0]
    if name == "snapshot":
        return {"snapshot": snapshot()}
    if name == "watch":
        watch()
        return {}
    device = pynvml.nvmlDeviceGetHandleByUUID(arguments[1].encode())
    if name == "persistence":
        pynvml.nvmlDeviceSetPersistenceMode(device, int(arguments[2]))
    elif name == "power-limit":
        pynvml.nvmlDeviceSetPowerManagementLimit(device, round(float(arguments[2]) * 1000))
    elif name == "mig":
        apply_mig(device, msgspec.json.decode(arguments[2], type=MigLayout))
    else:
        raise NvmlWriteFailed(f"unknown command {name}")
    return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
