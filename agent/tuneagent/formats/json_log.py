"""A log of one JSON object a line, the same for agent and operator."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timezone

import msgspec


class JsonLines(logging.Formatter):
    """One JSON object a line; fields by `extra={"fields": {...}}`. Times are RFC 3339, in UTC, to the millisecond."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode({**line, **getattr(record, "fields", {})}, enc_hook=str).decode()


def log_as_json(log: logging.Logger) -> None:
    """Send this log to stderr, from level INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
