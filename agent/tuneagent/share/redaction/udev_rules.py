"""Filter of udev rules: which attributes they set, and when, in known words. Text in, text out.

A capture must not be surer than its machine: a condition that is taken out becomes one that may hold or not, and a value
that is taken out one that is not known.
"""

from __future__ import annotations

from tuneagent.formats.lazy_regex import lazy_regex
from tuneagent.formats.udev_rules import Pair, parse
from tuneagent.share.redaction.vocabulary import MODULES, SYSFS, is_plain

_MATCHED = lazy_regex(r"(ACTION|SUBSYSTEMS?|KERNELS?|DRIVERS?|ENV\{(DEVTYPE|ID_BUS|ID_PATH|ID_AUTOSUSPEND)\})\Z")
_ATTRIBUTE = lazy_regex(
    r"(queue/[a-z0-9_-]+|queues/[a-z0-9*-]+/[a-z_]+|power/[a-z_]+|bdi/[a-z_]+|device/(queue_depth|timeout|numa_node|vendor|device)"
    r"|vendor|device|class|numa_node|rotational|removable|type|mtu|tx_queue_len|max_read_request_size|msi_bus|d3cold_allowed)\Z"
)
_WORDS = lazy_regex(
    r"(add|change|remove|online|bind|move|block|bdi|net|pci|cpu|memory|nvme|scsi|infiniband|drm|misc|workqueue|disk|partition|usb"
    r"|(0x)?[0-9a-fA-F]{1,8}|\*|([a-z]{2}[0-9*?\[\]!a-z:-]{0,6}|nvme[0-9*?\[\]!npc-]{0,32}|mlx[45]_[0-9*?\[\]-]{0,8}|0000:[0-9a-fA-F:.]{1,12}))\Z"
)
# Attributes that a program of a rule may set: the words of its command line that are kept.
_SET_BY_PROGRAMS = (
    "scheduler",
    "read_ahead_kb",
    "rq_affinity",
    "nomerges",
    "rps_cpus",
    "xps_cpus",
    "control",
)
_MAY_HOLD = 'PROGRAM=="redacted"'


def udev_rules(text: str) -> str:
    """Each rule that counts on its own line of before; comments and rules about other things leave empty lines."""
    lines = [""] * len(text.splitlines())
    labels: dict[str, str] = {}
    for rule in parse(text, ""):
        kept = [word for word in (_kept(pair, labels) for pair in rule.pairs) if word]
        if any(not word.startswith(("ACTION", "PROGRAM")) and "==" not in word for word in kept):
            lines[int(rule.place.rpartition(":")[2]) - 1] = ", ".join(kept)
    return "".join(f"{line}\n" for line in lines)


def _kept(pair: Pair, labels: dict[str, str]) -> str:
    """The pair in known words; empty where it is about other things."""
    key = f"{pair.key}{{{pair.attribute}}}" if pair.attribute else pair.key
    alternatives = pair.value.split("|")
    known = all(is_plain(one) or one in SYSFS or _WORDS.match(one) or MODULES.match(one) for one in alternatives)
    if pair.key in ("LABEL", "GOTO"):
        return f'{pair.key}="{labels.setdefault(pair.value, f"label{len(labels)}")}"'
    if pair.key == "RUN":
        named = [word for word in _SET_BY_PROGRAMS if word in pair.value]
        return f'RUN+="redacted {" ".join(named)}"' if named else ""
    if pair.key == "ATTR" and not pair.is_match:
        if not _ATTRIBUTE.match(pair.attribute):
            return ""
        return f'{key}{pair.operator}"{pair.value if known else "$env{redacted}"}"'
    if not pair.is_match:
        return _MAY_HOLD if pair.key in ("PROGRAM", "IMPORT") else ""
    is_known_key = _MATCHED.match(key) or (pair.key in ("ATTR", "ATTRS") and _ATTRIBUTE.match(pair.attribute))
    return f'{key}{pair.operator}"{pair.value}"' if known and is_known_key else _MAY_HOLD
