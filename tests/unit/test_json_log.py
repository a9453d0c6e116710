"""The log of daemon and operator: one JSON object a line, with a time that people can read."""

from __future__ import annotations

import json
import logging

from tuneagent.formats.json_log import JsonLines


def test_a_line_has_time_level_message_and_fields() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f.py", 1, "drift of %s", ("vm.swappiness",), None)
    record.created = 1_800_000_000.125
    record.fields = {"found": 60, "by": object}
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.125Z", "level": "warning", "message": "drift of vm.swappiness", "found": 60,
        "by": str(object),
    }  # fmt: skip


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f.py", 1, "failed", (), (type(error), error, error.__traceback__)
        )
    line = JsonLines().format(record)
    assert "\n" not in line and "ValueError: no" in json.loads(line)["traceback"]
