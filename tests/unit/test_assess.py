"""A value that makes no sense to its tunable is that setting's trouble alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.host.files import Files
from tuneagent.tunables.sysctl import TUNABLE


def test_what_cannot_be_judged_is_unknown_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "60\n", "proc/sys/vm/stat_interval": "1\n"}, ["etc/sysctl.d"])
    matches = type(TUNABLE).matches

    def confused(self: object, subject: str, observed: object, desired: object) -> bool:
        if subject == "key:vm.swappiness":
            raise TypeError("neither more nor less")
        return matches(TUNABLE, subject, observed, desired)  # type: ignore[arg-type]

    monkeypatch.setattr(type(TUNABLE), "matches", confused)
    session = session_of(tree(Files(str(tmp_path))), {"sysctl": {"vm.swappiness": 10, "vm.stat_interval": 10}})
    findings = {one.subject: one for one in session.observe().report.findings}
    assert findings["key:vm.swappiness"] == Finding(
        tunable="sysctl", subject="key:vm.swappiness", name="vm.swappiness", verdict=Verdict.UNKNOWN,
        severity=TUNABLE.about.severity, evidence="/proc/sys/vm/swappiness",
        advice="not judged: TypeError: neither more nor less",
    )  # fmt: skip
    assert findings["key:vm.stat_interval"].verdict is Verdict.DRIFTED
    assert session.observe().plan.changes[0].subject == "key:vm.stat_interval"
