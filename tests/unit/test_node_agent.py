"""A node's agent over an API server in memory: what it takes leave for, when, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memory_api import merge
from memory_node import FILES, LIVE, REBOOT, SMT, SMT_PATH, Node, Server


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, Server(), monkeypatch)


def test_live_changes_go_at_once_and_heavier_ones_are_proposed(node: Node) -> None:
    name = node.server.name(SMT)
    node.agent.once()
    told = node.server.node
    assert node.read("proc/sys/vm/swappiness") == "10" and node.read(SMT_PATH) == "on"
    assert told["revision"] == name and told["notAsWanted"] == 0 and told["refusal"] == "" and told["error"] == ""
    assert told["proposal"]["disruption"] == "kubelet" and told["proposal"]["changes"] == 1
    assert told.get("taken") is None


def test_a_grant_is_taken_before_the_first_write_and_answered_after_the_last(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    seen: list[str] = []
    node.server.before_patch = lambda: seen.append(node.read(SMT_PATH))
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    taken, answer = node.server.patches[-2:]
    assert taken == {"taken": {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}}
    assert seen == ["on", "off"] and answer["taken"] is None and answer["proposal"] is None
    # The same grant is worth nothing more.
    (node.root / SMT_PATH).write_text("on\n")
    node.agent.once()
    assert node.server.node["proposal"]["digest"]


def test_a_grant_that_was_taken_back_cannot_be_taken(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()

    def take_back() -> None:
        node.server.before_patch = lambda: None
        node.server.spec(grant=None)

    node.server.before_patch = take_back
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert not any((patch.get("taken") or {}).get("digest") for patch in node.server.patches)


@pytest.mark.parametrize(
    "change",
    [
        {"bootID": "b9"},
        {"bootID": ""},
        {"digest": "sha256:other"},
        {"lifetimeSeconds": -1},
        {"disruption": "live"},
        {"disruption": "x"},
    ],
    ids=str,
)
def test_a_grant_that_does_not_fit_is_not_taken(node: Node, change: dict[str, Any]) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant(**change)
    node.agent.once()
    assert node.read(SMT_PATH) == "on"
    assert node.server.node.get("taken") is None


def test_an_agent_that_died_with_a_grant_in_hand_goes_on_and_answers(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    grant = node.server.grant()
    taken = {"digest": grant["digest"], "bootID": "b0", "epoch": grant["epoch"]}
    merge(node.server.tuning, {"status": {"node": {"taken": taken}}})
    node.again()
    node.agent.once()
    assert node.read(SMT_PATH) == "off" and node.server.node.get("taken") is None


def test_one_whose_grant_is_gone_answers_without_a_change(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    merge(node.server.tuning, {"status": {"node": {"taken": {"digest": "d", "bootID": "b0", "epoch": 1}}}})
    node.again()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_a_reboot_is_answered_from_the_next_boot(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    assert node.server.node["proposal"]["disruption"] == "reboot"
    grant = node.server.grant()
    node.agent.once()
    assert node.programs.reboots == 1
    # Until the machine goes down nothing is answered, however long that takes and whatever runs out meanwhile.
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node["taken"]["digest"] == grant["digest"]
    text = FILES["proc/1/limits"].replace("8388608", "unlimited")
    (node.root / "proc/1/limits").write_text(text)
    node.boot("b1")
    node.agent.once()
    told = node.server.node
    assert (
        told.get("taken") is None
        and told.get("proposal") is None
        and told["bootID"] == "b1"
        and told["notAsWanted"] == 0
    )
    assert node.programs.reboots == 1


def test_a_reboot_that_cannot_be_ordered_is_given_up_when_the_grant_has_run_out(node: Node) -> None:
    node.server.name(REBOOT)
    node.agent.once()
    node.server.grant()
    node.programs.refuses = True
    with pytest.raises(Exception, match="reboot"):
        node.agent.once()
    assert node.server.node["taken"]
    node.agent.grants.first_seen = dict.fromkeys(node.agent.grants.first_seen, -1e9)
    node.agent.once()
    assert node.server.node.get("taken") is None


def test_content_that_this_agent_will_not_take_is_a_refusal_and_a_server_that_is_away_is_none(node: Node) -> None:
    first = node.server.name(LIVE)
    node.agent.once()
    second = node.server.name({"sysctl": {"vm.swappiness": 1000}})
    node.agent.once()
    assert second in node.server.node["refusal"] and "between 0 and 200" in node.server.node["refusal"]
    assert node.server.node["revision"] == first and node.read("proc/sys/vm/swappiness") == "10"
    node.server.name(LIVE)
    node.agent.once()
    assert node.server.node["refusal"] == ""
    node.server.is_away = True
    (node.root / "proc/sys/vm/swappiness").write_text("60\n")
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"


def test_what_this_host_cannot_do_is_a_refusal(node: Node) -> None:
    node.server.name({"kernelArguments": {"isolcpus": "1"}})
    node.agent.once()
    assert "kernelArguments arg:isolcpus" in node.server.node["refusal"]
    assert "by hand" in node.server.node["refusal"] and node.server.node["notAsWanted"] == 1


def test_baseline_takes_its_grant_too(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "off"
    node.server.spec(desired="Baseline", revision="", grant=None)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "60" and node.read(SMT_PATH) == "off"
    assert node.server.node["proposal"]["disruption"] == "kubelet" and not node.server.node["baseline"]
    node.server.grant()
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node["baseline"] and node.server.node.get("taken") is None


def test_pause_takes_no_grant(node: Node) -> None:
    node.server.name(SMT)
    node.agent.once()
    node.server.grant()
    node.server.policy = {"spec": {"pause": "all"}}
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.server.node.get("taken") is None


def test_without_a_policy_the_agent_goes_on(node: Node) -> None:
    node.server.policy = None
    node.server.name(LIVE)
    node.agent.once()
    assert node.read("proc/sys/vm/swappiness") == "10"


def test_a_plan_that_has_grown_since_it_was_proposed_needs_a_new_grant(node: Node) -> None:
    (node.root / SMT_PATH).write_text("off\n")
    (node.root / "etc/tmpfiles.d/smt.conf").write_text(f"w /{SMT_PATH} - - - - off\n")
    node.server.name({**REBOOT, "smt": {"enabled": False}})
    node.agent.once()
    proposed = node.server.node["proposal"]
    assert (proposed["disruption"], proposed["changes"]) == ("reboot", 1)
    node.server.grant()
    # Someone switches it on: now there is more to do than leave was asked for.
    (node.root / SMT_PATH).write_text("on\n")
    node.agent.once()
    assert node.read(SMT_PATH) == "on" and node.programs.reboots == 0
    assert node.server.node["taken"] is None and node.server.node["proposal"]["changes"] == 2


def test_a_plan_that_has_shrunk_since_it_was_proposed_is_covered_by_its_grant(node: Node) -> None:
    node.server.name({**REBOOT, "smt": {"enabled": False}})
    node.agent.once()
    assert node.server.node["proposal"]["changes"] == 2
    node.server.grant()
    (node.root / SMT_PATH).write_text("off\n")
    node.agent.once()
    assert node.programs.reboots == 1 and node.server.node["taken"] is not None
