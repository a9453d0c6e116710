"""The compiled kernels of the probes: a program of our own, built with the wheel, that measures and prints samples."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence

import msgspec

from tuneagent.errors import CommandFailed, MeasureFailed, Unsupported
from tuneagent.host.commands import run_bounded

_PROGRAM = os.path.join(os.path.dirname(__file__), "tuneagent-kernels")
_UNSUPPORTED = 3
_LATENCY = "/dev/cpu_dma_latency"


class Samples(msgspec.Struct, frozen=True):
    """What a kernel measured; `value` where it sums up what the samples cannot tell."""

    samples: tuple[float, ...]
    value: float | None = None


def run_kernel(name: str, arguments: Sequence[str], timeout_s: float) -> Samples:
    """Run one kernel. Raises Unsupported where this host cannot be measured so, MeasureFailed for any other end."""
    if not os.path.exists(_PROGRAM):
        raise Unsupported("this installation has no compiled kernels: it was built without a C compiler")
    try:
        done = run_bounded([_PROGRAM, name, *arguments], timeout_s, is_apart=True)
    except CommandFailed as error:
        raise MeasureFailed(str(error)) from None
    said = done.stderr.strip()[-500:]
    if done.code == _UNSUPPORTED:
        raise Unsupported(said)
    if done.code != 0:
        raise MeasureFailed(f"tuneagent-kernels {name}: exit {done.code}: {said}")
    return read_samples(done.stdout)


def read_samples(output: str) -> Samples:
    """Lines `sample NUMBER`, and at most one `value NUMBER`. Raises MeasureFailed."""
    samples: list[float] = []
    value: float | None = None
    try:
        for line in output.splitlines():
            kind, number = line.split()
            if kind == "value":
                value = float(number)
            else:
                samples.append(float(number))
    except ValueError:
        raise MeasureFailed(f"tuneagent-kernels: {line[:80]!r} is no sample") from None
    return Samples(tuple(samples), value)


@contextlib.contextmanager
def latency_limit(microseconds: int | None) -> Iterator[None]:
    """Idle states that take longer to leave than this are not used meanwhile; None changes nothing. Raises Unsupported.

    The kernel forgets the request when the file is closed, also by a process that dies (PM QoS).
    """
    if microseconds is None:
        yield
        return
    try:
        with open(_LATENCY, "wb", buffering=0) as request:
            request.write(struct.pack("i", microseconds))
            yield
    except OSError as error:
        raise Unsupported(f"{_LATENCY}: {error.strerror}") from None
