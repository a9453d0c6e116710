"""Writes the screens of the kept machines anew: look at the difference before it is committed.

tests/record_screens.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from captured_hosts import HOSTS, tuner_of
from support import FIXTURES
from tuneagent.contracts.report import Report
from tuneagent.engine.names import namer
from tuneagent.report.audit_lines import report_lines, report_plain
from tuneagent.report.audit_screen import report_text
from tuneagent.report.findings import Invocation
from tuneagent.report.text import plan_text
from tuneagent.tunables.registry import registry

SCREENS = FIXTURES / "screens"
WIDTHS = (80, 100, 200)
PROFILES = ("generic", "training")


def screens_of(place: Path, profile: str) -> tuple[Report, dict[str, str]]:
    """The report of a kept machine, and its screens by the ends of their names."""
    with tempfile.TemporaryDirectory() as folder:
        found = tuner_of(place, Path(folder), profile).observe(with_machine=True)
        kept = "--capture" if (place / "capture.tar.gz").is_file() else "--root"
        called = Invocation(f" {kept} {place.name}", f" -p {profile}", is_writable=kept == "--root")
        made = {f"{width}.txt": report_text(found.report, columns=width, called=called) for width in WIDTHS}
        made |= {"pipe.txt": report_lines(found.report), "plain.tsv": report_plain(found.report)}
        made |= {"plan.txt": plan_text(found.plan, namer(registry()), 80, found.report.findings)}
        return found.report, made


def main() -> None:
    """Write tests/fixtures/screens."""
    SCREENS.mkdir(exist_ok=True)
    for place in sorted(HOSTS.iterdir()):
        for profile in PROFILES:
            for end, text in screens_of(place, profile)[1].items():
                (SCREENS / f"{place.name}.{profile}.{end}").write_text(text + "\n")


if __name__ == "__main__":
    main()
