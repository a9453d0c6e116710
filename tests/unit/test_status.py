"""What a node says to the operator and to people: sentences, summaries, proposals, Events."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import session_of, tree, write_tree
from tuneagent.contracts.kubernetes_writes import body
from tuneagent.contracts.node_tuning import FINDINGS_LIMIT, MESSAGE_LIMIT, FindingSummary
from tuneagent.contracts.outcome import Outcome
from tuneagent.contracts.plan import Change, Prior, digest_of
from tuneagent.contracts.report import Finding, Verdict
from tuneagent.contracts.values import Disruption, Severity
from tuneagent.facts.one_pass import Facts
from tuneagent.host.files import Files
from tuneagent.node.status import (
    FINDINGS_BYTES,
    drift_message,
    event_of,
    failed_changes,
    proposal_of,
    status_findings,
)
from tuneagent.tunables.registry import registry


def finding(number: int = 0, **more: Any) -> Finding:
    base: dict[str, Any] = {
        "tunable": "sysctl", "subject": f"key:{number}", "verdict": Verdict.DRIFTED, "severity": Severity.HIGH,
        "observed": 60, "desired": {"min": 10}, "advice": "do this",
    }  # fmt: skip
    return Finding(**{**base, **more})


def change(subject: str, disruption: Disruption, desired: object = 1, prior: object = 0) -> Change:
    return Change(
        tunable="sysctl", subject=subject, prior=Prior(live=prior), desired=desired, disruption=disruption,
        persistence="boot",
    )  # fmt: skip


def test_a_finding_is_told_in_short() -> None:
    (told,) = status_findings([finding()])
    assert told == FindingSummary(
        tunable="sysctl", subject="key:0", verdict="drifted", severity="high", found="60", wanted='{"min":10}',
        reason="do this",
    )  # fmt: skip
    (told,) = status_findings([finding(observed="x" * 500, desired="y" * 500, advice="z" * 500)])
    assert (told.found, told.wanted, told.reason) == ("x" * 120, "y" * 120, "z" * 200)


def test_at_most_fifty_findings_are_told() -> None:
    many = [finding(number) for number in range(FINDINGS_LIMIT)]
    assert [one.subject for one in status_findings(many)][-1] == "and 1 more"
    assert len(status_findings(many)) == FINDINGS_LIMIT
    assert [one.subject for one in status_findings(many[:-1])] == [one.subject for one in many[:-1]]
    last = status_findings([*many, *many])[-1]
    assert last == FindingSummary(
        tunable="", subject=f"and {FINDINGS_LIMIT + 1} more", verdict="unknown", severity="info"
    )


def test_findings_fit_into_their_bytes() -> None:
    wide = [finding(number, observed="é" * 120, desired="é" * 120, advice="é" * 200) for number in range(49)]
    told = status_findings(wide)
    assert len(msgspec.json.encode(told)) <= FINDINGS_BYTES
    rest = 49 - (len(told) - 1)
    assert told[-1].subject == f"and {rest} more" and rest > 0
    # One more would not have fitted.
    assert len(msgspec.json.encode(told[:-1])) + len(msgspec.json.encode(told[0])) > FINDINGS_BYTES - 512


def test_failures_are_told_and_nothing_else() -> None:
    outcomes = [
        Outcome(tunable="sysctl", subject="key:a", result="failed", reason="EINVAL"),
        Outcome(tunable="sysctl", subject="key:b", result="verified", reason="fine"),
    ]
    assert failed_changes(outcomes) == ["key:a: EINVAL"]


def test_a_proposal_is_as_heavy_as_its_heaviest_change() -> None:
    assert proposal_of([]) is None
    changes = [change("a", Disruption.KUBELET), change("b", Disruption.REBOOT), change("c", Disruption.SERVICE)]
    proposal = proposal_of(changes)
    assert proposal is not None and proposal.disruption is Disruption.REBOOT
    assert proposal.digest == digest_of(changes) and proposal.changes == tuple(changes)
    summary = proposal.summary
    assert (summary.digest, summary.disruption, summary.changes) == (proposal.digest, "reboot", 3)


def test_a_proposal_covers_what_it_names_whatever_is_there_before() -> None:
    proposal = proposal_of([change("a", Disruption.REBOOT), change("b", Disruption.REBOOT, {"x": 1, "y": 2})])
    assert proposal is not None
    assert proposal.covers([]) and proposal.covers([change("a", Disruption.REBOOT, prior=7)])
    assert proposal.covers([change("b", Disruption.REBOOT, {"y": 2, "x": 1})])
    assert not proposal.covers([change("a", Disruption.REBOOT, 2)])
    assert not proposal.covers([change("c", Disruption.REBOOT)])


def test_drift_is_told_with_who_may_have_made_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"proc/sys/vm/swappiness": "33\n", "etc/sysctl.d/50-theirs.conf": "vm.swappiness = 33\n"})
    facts = Facts(session_of(tree(Files(str(tmp_path))), {}).host)
    tunable = registry()["sysctl"]
    told = finding(subject="key:vm.swappiness", observed=33, desired=10)
    assert drift_message(told, tunable, facts) == (
        "sysctl key:vm.swappiness: wanted 10, found 33; changed by /etc/sysctl.d/50-theirs.conf"
    )
    told = finding(subject="key:vm.swappiness", observed=34, desired=10)
    assert drift_message(told, tunable, facts) == (
        "sysctl key:vm.swappiness: wanted 10, found 34; changed by hand or a program that keeps no file: "
        "nothing on this host sets that value"
    )


def test_an_event_is_one_that_the_api_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The time is that of UTC, wherever the node is.
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0)))
    event = body(event_of("n1", "DriftRepaired", "m" * (MESSAGE_LIMIT + 9)))
    stamp = event.pop("firstTimestamp")
    assert stamp == "2026-01-02T03:04:05Z"
    assert event.pop("lastTimestamp") == stamp
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "n1.", "namespace": "default"},
        "involvedObject": {"apiVersion": "tuneagent.dev/v1alpha1", "kind": "NodeTuning", "name": "n1"},
        "reason": "DriftRepaired",
        "message": "m" * MESSAGE_LIMIT,
        "type": "Warning",
        "source": {"component": "tuneagent", "host": "n1"},
        "reportingComponent": "tuneagent.dev/agent",
        "reportingInstance": "n1",
        "count": 1,
    }
