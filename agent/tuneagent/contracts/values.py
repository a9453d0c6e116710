"""Words that every object uses: observations, severities, classes of disruption. Frozen data."""

from __future__ import annotations

import enum
from typing import Union

import msgspec

# A setting's value: whatever JSON can hold, so that journal, plan and report need no translation. Only its tunable
# looks into it.
Setting = object
# A stable identity such as `key:vm.swappiness`, `node:0`, `gpu:<UUID>`. Never an index.
Subject = str


class Severity(str, enum.Enum):
    """How much it matters when the setting is wrong."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for `info`."""
        return list(Severity).index(self)


class Disruption(str, enum.Enum):
    """What a change costs those who use the node, least first."""

    LIVE = "live"
    SERVICE = "service"
    KUBELET = "kubelet"
    GPU = "gpu"
    REBOOT = "reboot"

    @property
    def rank(self) -> int:
        """Position in the order, 0 for `live`."""
        return list(Disruption).index(self)


class Lifetime(str, enum.Enum):
    """What ends the effect of a write."""

    PROCESS = "process"
    BOOT = "boot"
    DRIVER = "driver"
    PERSISTENT = "persistent"


class Value(msgspec.Struct, frozen=True, tag="value"):
    """The setting was read."""

    value: Setting


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """This kernel, board or virtual machine has no such setting."""

    why: str


class Unreadable(msgspec.Struct, frozen=True, tag="unreadable"):
    """The setting may exist but could not be read."""

    error: str


Observation = Union[Value, Absent, Unreadable]


class Reading(msgspec.Struct, frozen=True):
    """One subject as found: running value, persisted value, and who owns it.

    `persisted` is None where the setting has no persistence of its own (the agent re-applies it).
    `mechanism` names the file or unit that would persist it, `impossible` says why that cannot be.
    `owner` names someone else whose value would override ours.
    """

    live: Observation
    evidence: str
    persisted: Observation | None = None
    mechanism: str | None = None
    impossible: str | None = None
    owner: str | None = None
    # Whether `persisted` is what our own drop-in says.
    own: bool = False
    # The running value's own text where writing the value back would spell it differently.
    raw: str | msgspec.UnsetType = msgspec.UNSET
    # What the next boot would set if our drop-in were not there; None where nothing does, or nobody asks.
    others: Setting = None
    # What else may change it at the next boot, with an effect that is not predicted; empty if nothing.
    doubt: str = ""


class Dispute(msgspec.Struct, frozen=True):
    """Where sources disagree: both sides, and what tuneagent does."""

    one: str
    other: str
    rule: str


class About(msgspec.Struct, frozen=True):
    """What explains a setting: severity if wrong, why it matters, where that is written, what to do."""

    severity: Severity
    why: str
    sources: tuple[str, ...] = ()
    advice: str = ""
    dispute: Dispute | None = None
