"""The daemon's log."""

from __future__ import annotations

import logging

from tuneagent.formats.json_log import log_as_json

log = logging.getLogger("tuneagent")


def set_up_logging() -> None:
    """JSON lines on stderr."""
    log_as_json(log)
