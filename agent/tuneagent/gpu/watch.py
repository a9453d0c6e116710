"""GPUs followed while something runs."""

from __future__ import annotations

import contextlib

import msgspec

from tuneagent.gpu.ask import is_out_of_the_question
from tuneagent.gpu.samples import GpuSample
from tuneagent.host.commands import Background
from tuneagent.host.machine import Host


class GpuWatch:
    """Samples of all GPUs, one a second, by a child of its own; none where no driver is loaded."""

    def __init__(self, host: Host) -> None:
        self._child = None
        if host.source == "live" and not is_out_of_the_question(host):
            self._child = Background("tuneagent.gpu.nvml_child", ["watch"], {"TUNEAGENT_NVML_ROOT": host.files.root})

    def samples(self) -> list[list[GpuSample]]:
        """What has come since the last call: all GPUs of each second."""
        return _decoded(self._child.lines()) if self._child is not None else []

    def close(self) -> list[list[GpuSample]]:
        """End the child; what came last."""
        return _decoded(self._child.close()) if self._child is not None else []


def _decoded(lines: list[bytes]) -> list[list[GpuSample]]:
    found = []
    for line in lines:
        # The child ends with an answer of another form, as where no driver is there.
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(msgspec.json.decode(line, type=list[GpuSample]))
    return found
