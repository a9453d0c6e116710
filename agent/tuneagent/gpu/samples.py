"""What one GPU did at one moment, as the watching child tells it."""

from __future__ import annotations

import msgspec


class GpuSample(msgspec.Struct, frozen=True, kw_only=True):
    """A moment; what a board or driver does not tell is None."""

    uuid: str
    busy_percent: int | None = None
    # Energy since the driver was loaded, in millijoules.
    energy_mj: int | None = None
    # Bits of nvmlClocksEventReasons.
    reasons: int | None = None
    # Errors of all NVLinks since the driver was loaded.
    link_errors: int | None = None
