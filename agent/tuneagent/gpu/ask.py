"""GPU facts and settings, asked of NVML in a short-lived child process."""

from __future__ import annotations

import msgspec

from tuneagent.contracts.values import Absent, Unreadable, Value
from tuneagent.errors import CommandFailed, ReadFailed, WriteFailed
from tuneagent.gpu.mig.board import MigLayout
from tuneagent.gpu.snapshot import GpuFacts, GpuSnapshot
from tuneagent.host.commands import run_module
from tuneagent.host.machine import Host
from tuneagent.host.processes import environment

SNAPSHOT_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 60.0
# A tree or capture keeps the snapshot of its machine here, relative to its root.
RECORDED_PATH = "tuneagent/gpus.json"


class _Answer(msgspec.Struct):
    """What the child prints."""

    snapshot: GpuSnapshot | None = None
    absent: str | None = None
    error: str | None = None


def read_gpus(host: Host) -> GpuFacts:
    """All GPUs of the host. Absent means that there is no driver, Unreadable that it did not answer."""
    if host.source != "live":
        return _recorded(host)
    if is_out_of_the_question(host):
        return Absent("no NVIDIA driver: none is loaded, and no NVIDIA device is on the PCI bus")
    try:
        answer = _child(host, ["snapshot"], SNAPSHOT_TIMEOUT_S)
    except (CommandFailed, ReadFailed) as error:
        return Unreadable(str(error))
    if answer.snapshot is not None:
        return answer.snapshot
    return Unreadable(answer.error) if answer.error else Absent(answer.absent or "no NVIDIA driver")


def is_out_of_the_question(host: Host) -> bool:
    """Whether NVML need not be asked. TUNEAGENT_NVML=ask asks anyway, for a bus that hides its devices."""
    if environment("TUNEAGENT_NVML") == "ask" or host.files.exists("proc/driver/nvidia"):
        return False
    try:
        devices = host.files.names("sys/bus/pci/devices")
        return bool(devices) and all(
            host.files.read_or(f"sys/bus/pci/devices/{name}/vendor", "") not in ("", "0x10de") for name in devices
        )
    except ReadFailed:
        return False


def set_persistence(host: Host, uuid: str, enabled: bool) -> None:
    """Set persistence mode of one GPU. Raises WriteFailed."""
    _write(host, ["persistence", uuid, str(int(enabled))])


def set_power_limit(host: Host, uuid: str, limit_w: float) -> None:
    """Set the power limit of one GPU, in watts. Raises WriteFailed."""
    _write(host, ["power-limit", uuid, str(limit_w)])


def set_mig(host: Host, uuid: str, layout: MigLayout) -> None:
    """Bring one GPU to a layout, keeping instances that are in it already.

    Raises WriteFailed, which says what is there after the failure. An instance whose compute slices are divided is
    never destroyed.
    """
    _write(host, ["mig", uuid, msgspec.json.encode(layout).decode()])


def _recorded(host: Host) -> GpuFacts:
    seen = host.observe(RECORDED_PATH)
    if not isinstance(seen, Value):
        return Unreadable(f"NVML cannot be asked on a {host.source}")
    try:
        answer = msgspec.json.decode(str(seen.value), type=_Answer)
    except msgspec.MsgspecError as error:
        return Unreadable(f"{RECORDED_PATH}: {error}")
    if answer.snapshot is not None:
        return answer.snapshot
    return Unreadable(answer.error) if answer.error else Absent(answer.absent or "no NVIDIA driver")


def record(facts: GpuFacts) -> bytes:
    """What a capture keeps, as `read_gpus` reads it back."""
    if isinstance(facts, GpuSnapshot):
        return msgspec.json.encode(_Answer(snapshot=facts))
    if isinstance(facts, Absent):
        return msgspec.json.encode(_Answer(absent=facts.why))
    return msgspec.json.encode(_Answer(error=facts.error))


def _child(host: Host, arguments: list[str], timeout_s: float) -> _Answer:
    done = run_module("tuneagent.gpu.nvml_child", arguments, timeout_s, {"TUNEAGENT_NVML_ROOT": host.files.root})
    try:
        return msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.MsgspecError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.code}"]
        raise ReadFailed(f"NVML child ended without an answer: {last[0]}") from None


def _write(host: Host, arguments: list[str]) -> None:
    if host.source != "live":
        raise WriteFailed(f"GPU settings cannot be written on a {host.source}")
    try:
        answer = _child(host, arguments, WRITE_TIMEOUT_S)
    except (CommandFailed, ReadFailed) as error:
        raise WriteFailed(str(error)) from None
    if answer.error or answer.absent:
        raise WriteFailed(answer.error or answer.absent or "NVML gave no answer")
