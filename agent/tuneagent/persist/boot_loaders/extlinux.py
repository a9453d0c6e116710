"""Kernel arguments of extlinux, as on Jetson boards: the line of the default label is read, and changed by people.

The file belongs to the firmware's packages or to a board's owner, and has no drop-in (wiki.syslinux.org, Config).
"""

from __future__ import annotations

import re

from tuneagent.errors import PathMissing, ReadFailed
from tuneagent.facts.one_pass import Facts
from tuneagent.persist.boot_loader import ReadOnlyLoader

CONFIG = "boot/extlinux/extlinux.conf"


class Extlinux(ReadOnlyLoader):
    """One configuration with a label for each way to boot."""

    rank = 50
    path = CONFIG

    def is_there(self, facts: Facts) -> bool:
        """Its configuration, and none of GRUB's, which boots first where both are installed."""
        files = facts.host.files
        return files.exists(CONFIG) and not files.exists("etc/default/grub")

    def next_line(self, facts: Facts) -> str:
        """APPEND of the label that DEFAULT names, or of the first one. Raises PathMissing or ReadFailed."""
        default, labels = _labels(facts.host.files.read(CONFIG))
        if not labels:
            raise PathMissing(f"/{CONFIG}: no LABEL in it")
        if default is not None and default not in labels:
            raise ReadFailed(f"/{CONFIG}: DEFAULT {default} is none of its labels")
        return labels[default] if default is not None else next(iter(labels.values()))

    def by_hand(self, words: str) -> str | None:
        """The line to change."""
        return f"add {words} to APPEND of the default label in /{CONFIG}"

    def impossible(self, facts: Facts) -> str | None:
        """There is no file of ours that it would read."""
        del facts
        return f"/{CONFIG} has no drop-in: its owner adds the arguments"


def _labels(text: str) -> tuple[str | None, dict[str, str]]:
    """DEFAULT, and APPEND by label; a later DEFAULT wins, keywords are written in any case."""
    default: str | None = None
    labels: dict[str, str] = {}
    current: str | None = None
    for line in text.splitlines():
        match = re.match(r"\s*(default|label|append)\s+(.*?)\s*$", line, re.IGNORECASE)
        if match is None:
            continue
        keyword, value = match.group(1).lower(), match.group(2)
        if keyword == "default":
            default = value
        elif keyword == "label":
            current = value
            labels.setdefault(value, "")
        elif current is not None:
            labels[current] = value
    return default, labels


LOADER = Extlinux()
