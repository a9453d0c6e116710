"""What the GPUs of a host do meanwhile, once a second: a line of JSON each, until standard input is closed.

Nothing is set. Sources: nvml.h of driver 580 (clocks event reasons, total energy, utilization, NVLink error counters).
"""

from __future__ import annotations

import contextlib
import functools
import select
import sys
from collections.abc import Callable

import msgspec
import pynvml

from tuneagent.gpu.mig.read import Handle
from tuneagent.gpu.samples import GpuSample

_PERIOD_S = 1.0


def watch() -> None:
    """Print samples until the parent closes our standard input."""
    handles = _handles()
    has_ended = False
    while True:
        found = [_sample(uuid, handle) for uuid, handle in handles.items()]
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
        if has_ended:
            return
        # The last sample is of the end.
        has_ended = bool(select.select([sys.stdin], [], [], _PERIOD_S)[0])


def _handles() -> dict[str, Handle]:
    """GPUs by their UUIDs; one that is lost does not hide the others."""
    found = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found[pynvml.nvmlDeviceGetUUID(handle)] = handle
    return found


def _sample(uuid: str, handle: Handle) -> GpuSample:
    return GpuSample(
        uuid=uuid,
        busy_percent=_ask(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        energy_mj=_ask(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
        reasons=_ask(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        link_errors=_link_errors(handle),
    )


def _link_errors(handle: Handle) -> int | None:
    """Replays, recoveries and CRC errors of all links that are up."""
    found = [
        _ask(functools.partial(pynvml.nvmlDeviceGetNvLinkErrorCounter, handle, link, kind))
        for link in range(pynvml.NVML_NVLINK_MAX_LINKS)
        for kind in range(pynvml.NVML_NVLINK_ERROR_COUNT)
    ]
    known = [one for one in found if one is not None]
    return sum(known) if known else None


def _ask(call: Callable[[], int]) -> int | None:
    try:
        return int(call())
    except (pynvml.NVMLError, AttributeError):
        return None
